"""Reports: every convention side by side, tables that lead back to clips, predictions that others can read."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from ska_vct.evaluation import AVSEvaluator, load_coco, load_prediction
from ska_vct.evaluation.conventions import CONVENTIONS

SIZE = 16
# pycocotools is older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def clips(num_classes: int) -> list[tuple[dict, dict]]:
    """Six clips of 5 frames, four of them scored; a third of the classes occurs."""
    pairs = []
    for index in range(6):
        generator = torch.Generator().manual_seed(index)
        masks = torch.randint(0, max(2, num_classes // 3), (5, SIZE, SIZE), generator=generator)
        scores = torch.rand(5, num_classes, SIZE, SIZE, generator=generator)
        scores.scatter_add_(1, masks[:, None], 0.4 * torch.ones(5, 1, SIZE, SIZE))
        annotated = torch.tensor([True, True, False, True, True])
        masks[~annotated] = 255
        clip = {
            "clip_id": f"test/-clip.{index}",
            "masks": masks,
            "mask_valid": annotated,
            "frame_valid": torch.ones(5, dtype=torch.bool),
        }
        pairs.append((clip, {"sem_seg": scores}))
    return pairs


def evaluate(pairs, folder, num_classes: int, **options) -> dict:
    evaluator = AVSEvaluator(
        dataset_name="toy",
        num_classes=num_classes,
        binary=num_classes == 2,
        output_dir=folder,
        distributed=False,
        **options,
    )
    for clip, output in pairs:
        evaluator.process([clip], [output])
    return evaluator.evaluate()["sem_seg"]


def read_csv(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("num_classes", [2, 71])
def test_every_convention_is_reported_whichever_is_chosen(tmp_path, caplog, num_classes):
    caplog.set_level("INFO")
    alone = {name: evaluate(clips(num_classes), tmp_path, num_classes, convention=name) for name in CONVENTIONS}
    caplog.clear()
    evaluate(clips(num_classes), tmp_path, num_classes, convention="tpavi")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["convention"] == "tpavi" and results["sem_seg"] == results["conventions"]["tpavi"]
    assert results["conventions"] == alone
    # They differ, or the test would not see them mixed up.
    assert len({scores["mIoU"] for scores in alone.values()}) == 3 if num_classes == 71 else True
    page = (tmp_path / "results.md").read_text()
    for name, scores in alone.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| {name} "))
        assert f"{scores['mIoU']:.2f}" in line and line in caplog.text
    assert f"Convention 'tpavi': mIoU {alone['tpavi']['mIoU']:.2f}" in caplog.text.splitlines()[-1]


def test_binary_figures_can_be_made_again_from_the_clips(tmp_path):
    evaluate(clips(2), tmp_path, 2)
    scores = json.loads((tmp_path / "results.json").read_text())["conventions"]
    rows = read_csv(tmp_path / "per_clip.csv")
    m_j = [float(row["M_J"]) for row in rows]
    assert np.mean(m_j) == pytest.approx(scores["combo"]["M_J"], abs=1e-4)
    # Equal numbers of frames: a batch's mean is the mean over its clips. Batches of 4 and 2.
    batches = [[m for m, row in zip(m_j, rows, strict=True) if row["tpavi_batch"] == str(b)] for b in (0, 1)]
    assert [len(batch) for batch in batches] == [4, 2]
    assert np.mean([np.mean(batch) for batch in batches]) == pytest.approx(scores["tpavi"]["M_J"], abs=1e-4)
    pooled = sum(int(row["intersection"]) for row in rows) / sum(int(row["union"]) for row in rows)
    assert 100 * pooled == pytest.approx(scores["dataset"]["M_J"], abs=1e-6)


def test_semantic_figures_can_be_made_again_from_clips_and_classes(tmp_path):
    evaluate(clips(71), tmp_path, 71, class_names=[f"class {k}" for k in range(71)])
    results = json.loads((tmp_path / "results.json").read_text())
    rows = read_csv(tmp_path / "per_clip_class.csv")
    blank = sum(int(row["blank_frames"]) for row in read_csv(tmp_path / "per_clip.csv"))
    assert blank == 6 * 5
    sums = {f"class {k}": np.zeros(6) for k in range(71)}
    columns = ("frames", "IoU_sum", "F_sum", "true_positive", "predicted", "labelled")
    for row in rows:
        sums[row["class"]] += [float(row[column]) for column in columns]
    table = np.array(list(sums.values()))
    frames = np.maximum(table[:, 0], 1)
    assert 100 * np.mean(table[:, 1] / frames) == pytest.approx(results["conventions"]["combo"]["mIoU"], abs=1e-3)
    assert 100 * np.mean(table[:, 2] / frames) == pytest.approx(results["conventions"]["combo"]["F"], abs=1e-3)
    padded = table.copy()
    padded[0, :2] += blank
    padded_iou = np.mean(padded[:, 1] / np.maximum(padded[:, 0], 1))
    assert 100 * padded_iou == pytest.approx(results["conventions"]["tpavi"]["mIoU"], abs=1e-3)
    union = table[:, 4] + table[:, 5] - table[:, 3]
    pooled = np.mean(table[:, 3] / np.maximum(union, 1))
    assert 100 * pooled == pytest.approx(results["conventions"]["dataset"]["mIoU"], abs=1e-3)
    for row, (count, iou, *_) in zip(results["classes"], table, strict=True):
        assert row["frames"] == count and row["IoU"] == pytest.approx(100 * iou / max(count, 1), abs=1e-3)


@pytest.mark.parametrize("num_classes", [2, 71])
def test_saved_predictions_score_as_they_did(tmp_path, num_classes):
    pairs, binary = clips(num_classes), num_classes == 2
    want = evaluate(pairs, tmp_path, num_classes, save_predictions=True)
    coco = load_coco(tmp_path / "predictions_coco.json", binary=binary)
    for name, load in {
        "png": lambda clip_id: load_prediction(tmp_path / "predictions", clip_id, range(5), binary=binary),
        "coco": lambda clip_id: coco.load(clip_id, range(5), size=(SIZE, SIZE)),
    }.items():
        saved = [(clip, {"labels": torch.from_numpy(load(clip["clip_id"]))}) for clip, _ in pairs]
        got = evaluate(saved, tmp_path / name, num_classes)
        keys = ("M_J", "boundary_F", "false_positive_share") if binary else tuple(want)
        # Probabilities are gone, and with them M_F's thresholds.
        assert {key: got[key] for key in keys} == pytest.approx({key: want[key] for key in keys}, abs=1e-9)


@pytest.mark.parametrize("num_classes", [2, 71])
def test_pycocotools_reads_the_predictions(tmp_path, num_classes, capsys):
    pairs = clips(num_classes)
    evaluate(pairs, tmp_path, num_classes, save_predictions=True)
    coco = COCO(str(tmp_path / "predictions_coco.json"))
    assert len(coco.imgs) == 30
    for image in coco.loadImgs(coco.getImgIds()):
        labels = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            inside = coco.annToMask(annotation).astype(bool)
            assert inside.sum() == annotation["area"]
            labels[inside] = annotation["category_id"]
        picture = np.asarray(Image.open(tmp_path / "predictions" / image["file_name"])).astype(int)
        np.testing.assert_array_equal(labels, picture // 255 if num_classes == 2 else picture)


def test_bad_prediction_files_are_named(tmp_path):
    path = tmp_path / "p.json"
    for text in ("no json", "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"p\.json is no file of predictions in COCO's format"):
            load_coco(path, binary=True)
    image = {"id": 1, "file_name": "a/b/b_1.png", "height": 4, "width": 4}
    broken = {"image_id": 1, "category_id": 1, "segmentation": {"size": [4, 4]}}
    path.write_text(json.dumps({"images": [image], "annotations": [broken]}))
    coco = load_coco(path, binary=True)
    with pytest.raises(ValueError, match=r"b_1\.png' of .* broken region"):
        coco.load("a/b", [0])
    with pytest.raises(ValueError, match="4 x 4 pixels but 8 x 8"):
        coco.load("a/b", [0], size=(8, 8))
    with pytest.raises(FileNotFoundError, match=r"clip 'a/b'.*no image 'a/b/b_2\.png'"):
        coco.load("a/b", [1])
