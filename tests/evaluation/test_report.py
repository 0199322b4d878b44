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
    assert len({(scores["mIoU"], scores["F"]) for scores in alone.values()}) == (4 if num_classes == 2 else 3)
    page = (tmp_path / "results.md").read_text()
    for name, scores in alone.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| {name} "))
        assert line.count(f"{scores['mIoU']:.2f}") == 1 and line in caplog.text, "each score once"
    first = "M_J" if num_classes == 2 else "mIoU"
    headline = f"Convention 'tpavi', percent: {first} {alone['tpavi']['mIoU']:.2f}"
    assert headline in caplog.text.splitlines()[-1]


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
    columns = ("intersection", "union", "predicted_pixels", "labelled_pixels", "pixels")
    hit, union, predicted, labelled, pixels = (sum(int(row[column]) for row in rows) for column in columns)
    assert 100 * hit / union == pytest.approx(scores["pooled"]["M_J"], abs=1e-6)
    background = (pixels - predicted - labelled + hit) / (pixels - hit)
    assert 50 * (hit / union + background) == pytest.approx(scores["dataset"]["M_J"], abs=1e-6)
    # Seconds 0, 1, 3 and 4 are annotated; a clip's scores are the means over them.
    seconds = [f"{name}_second_{k}" for name in ("IoU", "F") for k in (0, 1, 3, 4)]
    assert list(rows[0])[-8:] == seconds
    for row in rows:
        assert np.mean([float(row[name]) for name in seconds[:4]]) == pytest.approx(float(row["M_J"]), abs=1e-3)
        assert np.mean([float(row[name]) for name in seconds[4:]]) == pytest.approx(float(row["M_F"]), abs=1e-3)


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


def test_classes_are_ranked_and_their_confusion_is_counted(tmp_path, caplog):
    """Class 1 is always called 2; class 3 is right; classes 4 to 70 occur nowhere."""
    caplog.set_level("INFO")
    labels = torch.tensor([[[0, 1, 1, 3]]])
    scores = torch.nn.functional.one_hot(torch.tensor([[[0, 2, 2, 3]]]), 71).permute(0, 3, 1, 2).float()
    clip = {
        "clip_id": "v2/a",
        "masks": labels,
        "mask_valid": torch.ones(1, dtype=torch.bool),
        "frame_valid": torch.ones(1, dtype=torch.bool),
        "frame_index": torch.tensor([7]),
    }
    evaluate([(clip, {"sem_seg": scores})], tmp_path, 71, class_names=[f"name{k}" for k in range(71)])
    rows = {row["labelled"]: row for row in read_csv(tmp_path / "confusion.csv")}
    assert rows["name1"]["name2"] == "2" and rows["name3"]["name3"] == "1"
    assert sum(int(value) for row in rows.values() for name, value in row.items() if name != "labelled") == 4
    page = (tmp_path / "results.md").read_text()
    ranked = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| name")]
    assert ranked[:5] == ["name0", "name3", "name1", "name2", "name10"], "best first, then what occurs nowhere"
    assert page.count("<details>") == page.count("</details>") == 2
    assert "| name1 | name2 | 100.00 | 2 |" in " ".join(page.split())
    assert "of the 4 classes that occur (67 do not), convention 'combo', percent" in caplog.text
    (row,) = read_csv(tmp_path / "per_clip.csv")
    # labelled are 0, 1 and 3, of which 1 is missed
    assert row["mIoU_labelled_second_7"] == row["F_labelled_second_7"] == "66.6667" == row["F_labelled"]


def test_masks_without_probabilities_are_said_to_have_one_threshold(tmp_path, caplog):
    caplog.set_level("INFO")
    pairs = [(clip, {"labels": output["sem_seg"].argmax(1)}) for clip, output in clips(2)]
    evaluate(pairs, tmp_path, 2)
    single = "single, saved masks"
    thresholds = json.loads((tmp_path / "results.json").read_text())["m_f_threshold"]
    assert thresholds == {"combo": single, "tpavi": single, "dataset": "single, p > 0.5", "pooled": single}
    page = (tmp_path / "results.md").read_text()
    assert page.count(f"| {single} ") == 3 and f"(threshold: {single})" in caplog.text.splitlines()[-1]
    assert {row["M_F_threshold"] for row in read_csv(tmp_path / "per_clip.csv")} == {"single"}
    assert not (tmp_path / "precision_recall.csv").exists(), "a mask has no curve"


def test_precision_and_recall_lead_to_the_score(tmp_path):
    """One clip of one frame: its M_F is the best F of the curve."""
    clip, output = clips(2)[0]
    clip = {key: value[:1] if isinstance(value, torch.Tensor) else value for key, value in clip.items()}
    scores = evaluate([(clip, {"sem_seg": output["sem_seg"][:1]})], tmp_path, 2)
    rows = read_csv(tmp_path / "precision_recall.csv")
    assert len(rows) == 255 and float(rows[0]["threshold"]) == 0 and float(rows[0]["recall"]) == 1
    pairs = [(float(row["precision"]), float(row["recall"])) for row in rows]
    best = max(1.3 * p * r / (0.3 * p + r) for p, r in pairs if p + r)
    assert 100 * best == pytest.approx(scores["M_F"], abs=1e-3)


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
        saved = np.asarray(Image.open(tmp_path / "predictions" / image["file_name"])).astype(int)
        np.testing.assert_array_equal(labels, saved // 255 if num_classes == 2 else saved)


def test_bad_prediction_files_are_named(tmp_path):
    path = tmp_path / "p.json"
    for text in ("no json", "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"p\.json is not a prediction file in COCO's format"):
            load_coco(path, binary=True)
    image = {"id": 1, "file_name": "a/b/b_1.png", "height": 4, "width": 4}
    broken = {"image_id": 1, "category_id": 1, "segmentation": {"size": [4, 4]}}
    path.write_text(json.dumps({"images": [image], "annotations": [broken]}))
    coco = load_coco(path, binary=True)
    with pytest.raises(ValueError, match=r"b_1\.png' of .* has a region that has run lengths"):
        coco.load("a/b", [0])
    with pytest.raises(ValueError, match="4 x 4 pixels, but 8 x 8"):
        coco.load("a/b", [0], size=(8, 8))
    with pytest.raises(FileNotFoundError, match=r"clip 'a/b'.*no image 'a/b/b_2\.png'"):
        coco.load("a/b", [1])
