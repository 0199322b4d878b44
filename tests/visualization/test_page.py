"""Pages: whole in one file, every row a person looks for, names of strangers as text."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from ska_vct.structures.clip import ClipError
from ska_vct.visualization.colors import OUTCOME_PALETTE
from ska_vct.visualization.gallery import GalleryClip, gallery_page
from ska_vct.visualization.page import Shown, clip_page
from tests.visualization.test_images import make_clip

EVIL = "test/<script>alert(1)</script>\"' onload=x"


def inner_maps(num_frames: int = 3) -> dict:
    return {
        "attention": torch.rand(num_frames, 2, 6, 6),
        "activation": torch.rand(num_frames, 12, 12),
        "activation_plain": torch.rand(num_frames, 12, 12),
        "queries": torch.rand(num_frames, 2, 12, 12),
        "queries_plain": torch.rand(num_frames, 2, 12, 12),
        "query_index": torch.tensor([7, 3]),
    }


def rows_of(page: str) -> dict[str, list[np.ndarray]]:
    """Title of each row -> its images."""
    rows = {}
    for row in re.findall(r"<tr>\n<th scope=.*?</tr>", page, re.DOTALL):
        title = re.sub(r"<br>", " ", re.search(r'scope="row">(.*?)(<small|<img|</th>)', row, re.DOTALL)[1]).strip()
        cells = re.findall(r'<td class="s\d+"><img src="data:image/webp;base64,([^"]+)"', row)
        rows[title] = [np.asarray(Image.open(BytesIO(base64.b64decode(cell))).convert("RGB")) for cell in cells]
    return rows


def test_a_page_shows_every_row_and_needs_no_other_file():
    clip, prediction = make_clip()
    page = clip_page(
        clip, [Shown(title="a.pth", prediction=prediction | inner_maps(), scores="M_J 50 %")], audio=b"x"
    )
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) > 40 and all(address.startswith("data:") for address in addresses)
    assert "http" not in page.replace("http-equiv", "") and len(page) < 500_000
    rows = rows_of(page)
    assert list(rows) == [
        "Frames", "Ground truth", "Log-mel", "Flow", "Prediction", "Probability", "Errors", "Motion map",
        "Boundary", "SKA head 1", "SKA head 2", "All queries before the prompt", "All queries after the prompt",
        "Strongest query before the prompt", "Strongest query after the prompt",
        "Query no. 2 before the prompt", "Query no. 2 after the prompt",
    ]  # fmt: skip
    assert all(len(cells) == 3 for cells in rows.values())
    assert "query 7" in page and "M_J 50 %" in page and "data:audio/mp4;base64,eA==" in page


def test_errors_have_their_colours():
    clip, prediction = make_clip()
    clip["images"][:] = 0
    labels = torch.zeros(3, 56, 56, dtype=torch.int64)
    labels[:, 10:40, 25:55] = 1
    (missed, correct, false) = (rows_of_point(clip, labels, x) for x in (15, 32, 50))
    for color, code in ((correct, 1), (false, 2), (missed, 3)):
        wanted = 0.65 * OUTCOME_PALETTE[code]
        assert np.abs(color - wanted).max() < 30, code


def rows_of_point(clip: dict, labels: torch.Tensor, x: int) -> np.ndarray:
    page = clip_page(clip, [Shown(title="a", prediction={"labels": labels})])
    image = rows_of(page)["Errors"][0]
    return image[image.shape[0] * 25 // 56, image.shape[1] * x // 56].astype(float)


def test_rows_of_two_models_stand_beside_each_other_and_gaps_are_named():
    clip, prediction = make_clip()
    plain = {"sem_seg": prediction["sem_seg"]}
    page = clip_page(
        clip,
        [Shown(title="first", prediction=plain), Shown(title="second", prediction=prediction | inner_maps())],
    )
    first, second = page.split("<section>")[1:]
    assert first.count('scope="row"') == second.count('scope="row"') > 8
    assert first.count("not in this model") == 10 and "not in this model" not in second
    with pytest.raises(ClipError, match="its attention has 2"):
        clip_page(clip, [Shown(title="a", prediction=plain | {"attention": torch.rand(2, 2, 6, 6)})])


def test_names_of_strangers_are_text():
    clip, prediction = make_clip(num_classes=71)
    names = [f"<b>{k}" for k in range(71)]
    page = clip_page(clip | {"clip_id": EVIL}, [Shown(title=EVIL, prediction=prediction)], class_names=names)
    gallery = gallery_page(
        [GalleryClip(name=EVIL, image="a b#%.webp", size=(2, 2), classes={EVIL: 0.5}, page="x?.html")], title=EVIL
    )
    for text in (page, gallery):
        assert "alert(1)</script>" not in text and "<b>" not in text and "onload=x" in text
        assert "\"' onload" not in text and "&lt;script&gt;" in text
    assert 'src="a%20b%23%25.webp"' in gallery and 'href="x%3F.html"' in gallery


def test_the_gallery_lists_classes_worst_first_and_clips_without_a_score_last():
    clips = [
        GalleryClip(name="none", image="n.webp", size=(2, 2)),
        GalleryClip(
            name="good", image="g.webp", size=(2, 2), scores={"mIoU": 0.9}, classes={"dog": 0.9, "cat": 0.5}
        ),
        GalleryClip(name="bad", image="b.webp", size=(2, 2), scores={"mIoU": 0.2}, classes={"dog": 0.3}),
    ]
    page = gallery_page(clips, title="t", class_note="means")
    assert re.findall(r'<article data-name="(\w+)"', page) == ["bad", "good", "none"]
    assert re.findall(r'<tr data-name="(\w+)" data-count="(\d)" data-mean="([\d.]+)"', page) == [
        ("cat", "1", "0.5"), ("dog", "2", "0.6"),
    ]  # fmt: skip
    assert re.findall(r'data-classes="([^"]*)"', page) == ["1:0.300000", "1:0.900000 0:0.500000", ""]
