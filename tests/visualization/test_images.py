"""Images: colours mean what they say, shapes are right, what cannot be drawn is refused."""

import numpy as np
import pytest
import torch

from ska_vct.structures.clip import ClipError
from ska_vct.utils.palette import voc_palette
from ska_vct.visualization import (
    canvas,
    contact_sheet,
    flow_to_image,
    heat,
    index_sheet,
    overlay_heat,
    overlay_labels,
    overlay_outcomes,
    overview_row,
    panels,
)
from ska_vct.visualization.canvas import font, shorten, wrap
from ska_vct.visualization.colors import BINARY_PALETTE, OUTCOME_PALETTE
from ska_vct.visualization.images import letterbox, log_mel_image, outcome_map, resize_labels, strongest_field


def make_clip(num_frames: int = 3, size: int = 48, num_classes: int = 2) -> tuple[dict, dict]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(num_frames, 56, 56, dtype=torch.int64)
    masks[:, 10:40, 10:40] = num_classes - 1
    mask_valid = torch.ones(num_frames, dtype=torch.bool)
    mask_valid[-1] = False
    masks[-1] = 255
    clip = {
        "clip_id": "test/dog/abc",
        "subset": "ms3" if num_classes == 2 else "avss",
        "images": torch.full((num_frames, 3, size, size), 120, dtype=torch.uint8),
        "log_mel": torch.randn(num_frames, 1, 96, 64, generator=generator),
        "flow": torch.randn(num_frames, 2, 2, 6, 6, generator=generator),
        "frame_valid": torch.ones(num_frames, dtype=torch.bool),
        "mask_valid": mask_valid,
        "masks": masks,
        "frame_index": torch.arange(num_frames),
    }
    prediction = {
        "sem_seg": torch.rand(num_frames, num_classes, 56, 56, generator=generator),
        "motion_map": torch.rand(num_frames, 6, 6, generator=generator),
        "boundary": torch.rand(num_frames, 12, 12, generator=generator),
    }
    return clip, prediction


def test_palette_is_the_released_one():
    palette = voc_palette(71)
    # Values of docs/data.md.
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 70: (32, 128, 128)}
    assert {label: tuple(palette[label].tolist()) for label in expected} == expected
    assert len(np.unique(palette, axis=0)) == 71


def test_flow_colour_depends_on_direction_and_speed():
    field = np.zeros((2, 1, 4), np.float32)
    field[:, 0, 1] = (1, 0)
    field[:, 0, 2] = (-1, 0)
    field[:, 0, 3] = (0.25, 0)
    still, right, left, slow = flow_to_image(field)[0].astype(int)
    assert (still >= 254).all()
    assert right[0] > right[2] and left[2] > left[0], "right is red, left is blue-green in the wheel"
    # the same hue, nearer to white
    assert (slow >= right).all() and slow.min() > right.min() + 60
    # with a scale a faster field is cut at full saturation, and a still clip's noise stays white
    assert (flow_to_image(field * 9, scale=1.0)[0, 1] == right).all()
    assert flow_to_image(field * 0.01, scale=1.0).min() > 250


def test_flow_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 4\)"):
        flow_to_image(np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="not finite"):
        flow_to_image(np.full((2, 4, 4), np.nan))


def test_strongest_field_shows_what_swings():
    flow = np.zeros((1, 3, 2, 2, 2))
    flow[0, 0], flow[0, 2] = 1, -2
    assert (flow.mean(1) == flow.sum(1) / 3).all()
    assert (strongest_field(flow)[0] == -2).all()


def test_overlay_fills_draws_contours_and_hatches():
    image = np.full((40, 40, 3), 100, np.uint8)
    labels = np.zeros((40, 40), np.int64)
    labels[10:30, 10:30] = 1
    labels[:, 36:] = 255
    palette = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)
    drawn = overlay_labels(image, labels, palette)
    assert (drawn[:8, :8] == 100).all(), "background stays"
    assert drawn[20, 20].tolist() == [145, 55, 55], "100 + 0.45 * (200 - 100), 100 - 0.45 * 100"
    assert drawn[10, 20].tolist() == [200, 0, 0], "the contour has the full colour"
    assert (drawn[:, 36:] > 200).all(), "not annotated is light grey"
    assert image.min() == image.max() == 100, "the input is left alone"
    assert overlay_labels(image, np.zeros((8, 8), int), palette).tolist() == image.tolist()
    with pytest.raises(ValueError, match="Label 2 has no colour"):
        overlay_labels(image, (labels == 1) * 2, palette)


@pytest.mark.parametrize("level", [(r, g, b) for r in (0, 128, 255) for g in (0, 128, 255) for b in (0, 128, 255)])
def test_an_outline_stands_out_from_any_colour(level):
    """Also from the colour that it is drawn in, where the fill cannot be seen."""
    labels = np.zeros((40, 40), np.int64)
    labels[10:30, 10:30] = 1
    for color in (level, (90, 200, 40)):
        drawn = overlay_labels(
            np.full((40, 40, 3), level, np.uint8), labels, np.array([(0, 0, 0), color], np.uint8)
        )
        difference = np.abs(drawn.astype(int) - level).max(2)
        around = difference[8:32, 8:32]
        ends = slice(2, -2)
        # on every side of the square, somewhere across its outline
        for side in (around[:5].max(0), around[-5:].max(0), around[:, :5].max(1), around[:, -5:].max(1)):
            assert side[ends].min() >= 127
        assert difference[:7].max() == 0 and difference[:, 33:].max() == 0


# Machado et al., A physiologically-based model for simulation of color vision deficiency, 2009; severity 1.
DEFICIENCIES = {
    "protanopia": [
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ],
    "deuteranopia": [
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.01182, 0.04294, 0.968881),
    ],
    "tritanopia": [
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.3039),
    ],
}


def lab(colors: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB in [0, 1], float (n, 3)."""
    xyz = colors @ np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]).T
    xyz = xyz / (0.9505, 1.0, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("name", ["none", *DEFICIENCIES])
def test_outcomes_are_told_apart_by_all_kinds_of_vision(name):
    linear = (OUTCOME_PALETTE[1:] / 255.0) ** 2.2
    seen = lab(np.clip(linear @ np.array(DEFICIENCIES.get(name, np.eye(3))).T, 0, 1))
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    # 2.3 can just be told apart side by side
    assert distance[np.triu_indices(len(seen), 1)].min() > 20


def test_outcomes_worked_by_hand():
    truth = np.array([[0, 0, 1, 1, 2, 255]])
    labels = np.array([[0, 1, 0, 1, 1, 1]])
    assert outcome_map(labels, truth).tolist() == [[0, 2, 3, 1, 4, 255]]
    big = np.repeat(np.repeat(np.stack([labels, truth]), 20, 1), 20, 2)
    drawn = overlay_outcomes(np.full((20, 120, 3), (90, 30, 60), np.uint8), *big)
    grey = drawn[10, 10].astype(int)
    assert grey.max() - grey.min() == 0, "background is grey"
    for cell, code in ((1, 2), (2, 3), (3, 1), (4, 4)):
        want = grey + 0.65 * (OUTCOME_PALETTE[code].astype(int) - grey)
        assert np.abs(drawn[10, 20 * cell + 10] - want).max() <= 1
    assert drawn[10, 110].min() > 200, "no ground truth is hatched"


def test_letterbox_keeps_proportions():
    image = np.full((40, 80, 3), 10, np.uint8)
    fitted = letterbox(image, (60, 60))
    rows = np.flatnonzero((fitted == 10).all(2).all(1))
    assert len(rows) == 30 and rows[0] == 15 and (fitted[:15] == 255).all()


def test_labels_are_resized_without_new_classes():
    labels = np.zeros((8, 8), np.int64)
    labels[:, 4:] = 255
    labels[4:] = 7
    big = resize_labels(labels, (64, 64))
    assert set(np.unique(big)) == {0, 7, 255}
    assert (big[36:] == 7).all() and (big[:28, 36:] == 255).all() and (big[:28, :28] == 0).all()


def test_heat_and_log_mel_orientation():
    dark, bright = heat(np.array([[0.0, 1.0]]))[0].astype(int)
    assert dark.sum() < 30 and bright.sum() > 500
    assert (heat(np.array([[-5.0, 0.0]]))[0, 0] == dark).all()
    patch = np.full((96, 64), -4.6, np.float32)
    patch[:48, :8] = 2.0  # low pitch in the first half second: lower left
    image = log_mel_image(patch, (64, 96), low=-4.6, high=2.0).sum(2)
    assert image[60, 10] > 400 and image[60, 90] < 50 and image[4, 10] < 50
    shown = overlay_heat(np.full((32, 32, 3), 80, np.uint8), np.eye(2))
    assert shown[2, 2].sum() > shown[2, 30].sum() + 100


def test_contact_sheet_has_a_row_for_all_there_is():
    clip, prediction = make_clip()
    full = contact_sheet(clip, prediction, scores={"M_J": 0.5}, frame_scores=[0.1, 0.2, float("nan")])
    assert full.dtype == np.uint8 and full.shape[2] == 3
    assert full.shape[1] > 3 * 160, "small frames are enlarged"
    assert (full[0] == 255).all() and (full[-8:] == 255).all(), "a light margin"
    for name in ("motion_map", "boundary"):
        less = contact_sheet(clip, {key: value for key, value in prediction.items() if key != name})
        assert full.shape[0] - less.shape[0] > 160, name
    # a row each for the flow and, against ground truth, for masks and errors; the latter's legend, too
    for name, height in (("flow", 160), ("masks", 2 * 160)):
        less = contact_sheet(clip | {name: None}, prediction)
        assert height < full.shape[0] - less.shape[0] < height + 90, name
    saved = contact_sheet(clip, {"labels": prediction["sem_seg"].argmax(1)})
    assert full.shape[0] - saved.shape[0] > 3 * 160, "labels alone have no probability, map or boundary"
    short = contact_sheet(clip, prediction, evidence=False)
    assert full.shape[0] - short.shape[0] > 3 * 160
    assert not np.array_equal(full, contact_sheet(clip, prediction)), "scores are printed"


def test_contact_sheet_leaves_out_frames_that_do_not_exist():
    clip, prediction = make_clip()
    want = contact_sheet(clip, prediction)
    padded = {
        key: torch.cat([value, value[-1:]]) if isinstance(value, torch.Tensor) else value
        for key, value in clip.items()
    }
    padded["frame_valid"][-1] = False
    np.testing.assert_array_equal(contact_sheet(padded, prediction), want)
    longer = {key: torch.cat([value, value[-1:]]) for key, value in prediction.items()}
    np.testing.assert_array_equal(contact_sheet(padded, longer), want)
    with pytest.raises(ClipError, match="'test/dog/abc' has 4 frames but its prediction has 2"):
        contact_sheet(padded, {"sem_seg": prediction["sem_seg"][:2]})


def test_contact_sheet_restores_the_frames_proportions():
    clip, prediction = make_clip()
    for frame_size, want in ((None, (160, 160)), ((360, 640), (160, 284)), ((640, 360), (284, 160))):
        grey = (contact_sheet(clip, prediction, frame_size=frame_size) == 120).all(2)
        width = grey[grey.sum(1).argmax()].sum() / 3
        column = np.diff(np.flatnonzero(~grey[:, grey.sum(0).argmax()]))
        # the border of a cell has another colour
        assert (column.max() + 1, width + 2) == pytest.approx(want, abs=1)


def test_frames_without_ground_truth_are_said_to_have_none():
    """The last frame is hatched where its truth and its errors would be; without any, nothing is drawn of them."""
    clip, prediction = make_clip()
    stripes = np.isin(contact_sheet(clip, prediction, evidence=False), (214, 232)).all(2)
    columns = np.flatnonzero(stripes.sum(0) > 160)
    assert 140 < len(columns) <= 160 and columns[0] > 2 * 160, "one frame of three, twice"
    clip["mask_valid"][:] = False
    none = contact_sheet(clip, prediction, evidence=False)
    assert np.isin(none, (214, 232)).all(2).sum() < 100
    assert none.shape[0] < contact_sheet(make_clip()[0], prediction, evidence=False).shape[0] - 2 * 160


def test_contact_sheet_of_classes_names_them():
    clip, prediction = make_clip(num_classes=71)
    names = [f"name{k}" for k in range(71)]
    with_names = contact_sheet(clip, prediction | {"labels": clip["masks"].clamp(max=70)}, class_names=names)
    one_class = voc_palette(71)[70]
    legend = with_names[-40:, :, :]
    assert (legend == one_class).all(2).sum() > 100, "a patch of the class's colour below the grid"
    # many classes: the legend breaks into lines
    many = contact_sheet(clip, prediction, class_names=names)
    assert many.shape[0] > with_names.shape[0] + 22


def test_index_sheet_has_a_row_per_clip():
    clip, prediction = make_clip()
    rows = [
        overview_row(clip, prediction, scores={"M_J": 0.25}),
        overview_row(clip | {"masks": None}, prediction, frame_size=(90, 160)),
    ]
    assert [len(row.cells) for row in rows] == [5, 5], "three frames and two empty cells"
    assert rows[0].title == "test\ndog\nabc" and rows[0].subtitle == "M_J 25.0 %"
    assert rows[0].notes == ["", "", "no ground truth", "", ""]
    assert rows[1].subtitle == "no ground truth" and not any(rows[1].notes)
    assert (rows[1].cells[0][:30] == 255).all() and (rows[1].cells[0][60:100] != 255).any(), "16:9, letterboxed"
    page = index_sheet(rows, title="2 clips")
    legend = page[-40:].reshape(-1, 3)
    for color in (*OUTCOME_PALETTE[1:4], BINARY_PALETTE[1]):
        assert (legend == color).all(1).sum() > 50
    assert (legend == OUTCOME_PALETTE[4]).all(1).sum() == 0, "one class cannot be the wrong one"


def test_long_titles_are_cut_in_the_middle():
    text = "test/" + "x" * 300 + "/end"
    short = shorten(text, font(20), 300)
    assert font(20).getlength(short) <= 300
    assert short.startswith("test/") and short.endswith("/end") and "..." in short
    assert shorten("abc", font(20), 300) == "abc"


def test_long_subtitles_take_several_lines():
    text = "M_J 33.8 %   M_F 51.1 %   (convention 'combo', M_F at the clip's best threshold)"
    lines = wrap(text, font(15), 250)
    assert len(lines) > 1 and all(font(15).getlength(line) <= 250 for line in lines)
    assert " ".join(lines).split() == text.split(), "nothing is lost"
    assert wrap("", font(15), 250) == [] and wrap("abc", font(15), 250) == ["abc"]
    clip, prediction = make_clip(num_frames=1)
    clip["mask_valid"][:] = True
    narrow = contact_sheet(clip, prediction, scores={"M_J": 0.5}, scores_note="a note that is long " * 4)
    assert narrow.shape[0] >= contact_sheet(clip, prediction, scores={"M_J": 0.5}).shape[0] + 22


@pytest.mark.parametrize(("width", "columns"), [(160, 3), (224, 5), (398, 10), (1920, 2)])
def test_text_is_readable_where_pages_are_shown(monkeypatch, width, columns):
    """At 1000 pixels, about the width of a browser's page, no text is smaller than 11.5 pixels."""
    sizes = []

    def recorded(size):
        sizes.append(size)
        return font(size)

    monkeypatch.setattr(canvas, "font", recorded)
    monkeypatch.setattr(panels, "font", recorded)
    cells = [np.zeros((100, width, 3), np.uint8)] * columns
    row = canvas.Row("Flow", cells, subtitle="hue", notes=["IoU"] * columns, ticks=[[(0, "1 s")]] * columns)
    page = canvas.draw_grid(
        [row], title="t", subtitle="s", headings=["0 s"] * columns, legend=[("dog", (9, 9, 9))]
    )
    assert min(sizes) * min(1, 1000 / page.shape[1]) >= 11.5
    maps = np.zeros((1, 8, 8))
    drawn = panels.Panels(
        maps.astype(int), None, maps, palette=BINARY_PALETTE, class_names=(), captions=True, present=[1]
    )
    sizes.clear()
    drawn.fit((100, width))
    image = drawn.draw(np.zeros((100, width, 3), np.uint8), 0, 0.0)
    assert min(sizes) * min(1, 1000 / image.shape[1]) >= 11.5
