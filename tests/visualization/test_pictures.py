"""Pictures: colours mean what they say, shapes are right, what cannot be drawn is refused."""

import numpy as np
import pytest
import torch

from ska_vct.structures.clip import ClipError
from ska_vct.utils.palette import voc_palette
from ska_vct.visualization import contact_sheet, flow_to_image, heat, index_sheet, overlay_heat, overlay_labels
from ska_vct.visualization.canvas import font, shorten
from ska_vct.visualization.pictures import log_mel_picture, resize_labels, strongest_field


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
    # the values that data.md lists
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
    picture = np.full((40, 40, 3), 100, np.uint8)
    labels = np.zeros((40, 40), np.int64)
    labels[10:30, 10:30] = 1
    labels[:, 36:] = 255
    palette = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)
    drawn = overlay_labels(picture, labels, palette)
    assert (drawn[:8, :8] == 100).all(), "background stays"
    assert drawn[20, 20].tolist() == [145, 55, 55], "100 + 0.45 * (200 - 100), 100 - 0.45 * 100"
    assert drawn[10, 20].tolist() == [200, 0, 0], "the contour has the full colour"
    assert (drawn[:, 36:] > 200).all(), "not annotated is light grey"
    assert picture.min() == picture.max() == 100, "the input is left alone"
    assert overlay_labels(picture, np.zeros((8, 8), int), palette).tolist() == picture.tolist()
    with pytest.raises(ValueError, match="Label 2 has no colour"):
        overlay_labels(picture, (labels == 1) * 2, palette)


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
    picture = log_mel_picture(patch, (64, 96), low=-4.6, high=2.0).sum(2)
    assert picture[60, 10] > 400 and picture[60, 90] < 50 and picture[4, 10] < 50
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
    for name in ("masks", "flow"):
        less = contact_sheet(clip | {name: None}, prediction)
        assert full.shape[0] - less.shape[0] > 100, name
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


def test_index_sheet_holds_every_sheet():
    sheets = {str(i): np.full((100 + i, 200, 3), 10 * i, np.uint8) for i in range(4)}
    page = index_sheet(sheets, width=100, columns=3)
    # two lines: 103 and 103 px high halve to 51 or 52, plus a margin of 8 above and below each
    assert page.shape[1] == 3 * 116
    assert [int((page == 10 * i).all(2).sum() > 4000) for i in range(4)] == [1, 1, 1, 1]


def test_long_titles_are_cut_in_the_middle():
    text = "test/" + "x" * 300 + "/end"
    short = shorten(text, font(20), 300)
    assert font(20).getlength(short) <= 300
    assert short.startswith("test/") and short.endswith("/end") and "..." in short
    assert shorten("abc", font(20), 300) == "abc"
