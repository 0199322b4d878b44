"""The evaluator: published results, independence of batches and ranks, files, errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.evaluation import AVSEvaluator, load_prediction, save_prediction
from ska_vct.evaluation.prediction_files import prediction_path

GOLDEN = Path(__file__).parents[2].parent / "shared/goldens/metrics.npz"


def make_clip(index: int, *, num_frames: int = 3, num_classes: int = 2, size: int = 12) -> tuple[dict, dict]:
    """A clip whose last frame is not annotated, with scores that are right more often than not."""
    generator = torch.Generator().manual_seed(index)
    masks = torch.randint(0, num_classes, (num_frames, size, size), generator=generator)
    scores = torch.rand(num_frames, num_classes, size, size, generator=generator)
    scores.scatter_add_(1, masks[:, None], 0.5 * torch.ones(num_frames, 1, size, size))
    mask_valid = torch.ones(num_frames, dtype=torch.bool)
    mask_valid[-1] = False
    masks[-1] = 255
    clip = {
        "clip_id": f"test/clip{index}",
        "masks": masks,
        "mask_valid": mask_valid,
        "frame_valid": torch.ones(num_frames, dtype=torch.bool),
        "frame_index": torch.arange(num_frames),
    }
    return clip, {"sem_seg": scores}


def binary_evaluator(**kwargs) -> AVSEvaluator:
    return AVSEvaluator(dataset_name="toy", num_classes=2, binary=True, distributed=False, **kwargs)


def run(evaluator: AVSEvaluator, pairs, batch: int = 1) -> dict:
    evaluator.reset()
    for start in range(0, len(pairs), batch):
        clips, outputs = zip(*pairs[start : start + batch], strict=True)
        evaluator.process(clips, outputs)
    return evaluator.evaluate()["sem_seg"]


@pytest.mark.skipif(not GOLDEN.is_file(), reason="golden data are not here")
def test_scores_equal_the_published_evaluator():
    golden = np.load(GOLDEN)
    pairs = []
    for i in range(3):
        clip, _ = make_clip(i, num_frames=5, size=32)
        clip["masks"] = torch.from_numpy(golden[f"evaluator/gt_{i}"]).long()
        clip["mask_valid"][:] = True
        pairs.append((clip, {"sem_seg": torch.from_numpy(golden[f"evaluator/sem_seg_{i}"])}))
    scores = run(binary_evaluator(), pairs)
    assert scores["mIoU"] / 100 == pytest.approx(float(golden["evaluator/mIoU"]), abs=1e-6)
    assert scores["F"] / 100 == pytest.approx(float(golden["evaluator/F"]), abs=1e-6)
    assert scores["M_J"] == scores["mIoU"] and scores["M_F"] == scores["F"]


@pytest.mark.parametrize("num_classes", [2, 71])
def test_scores_do_not_depend_on_batches_or_repeated_clips(num_classes):
    pairs = [make_clip(i, num_frames=2 + i % 2, num_classes=num_classes) for i in range(5)]
    evaluator = AVSEvaluator(
        dataset_name="toy", num_classes=num_classes, binary=num_classes == 2, distributed=False
    )
    want = run(evaluator, pairs)
    assert run(evaluator, pairs, batch=3) == want
    # a sampler that pads the last rank repeats clips
    assert run(evaluator, [*pairs, pairs[0], pairs[1]], batch=2) == want


def test_frames_that_do_not_exist_or_are_not_annotated_do_not_count():
    clip, output = make_clip(0)
    want = run(binary_evaluator(), [(clip, output)])
    longer = {key: value for key, value in clip.items()}
    for key, fill in (("masks", 1), ("mask_valid", True), ("frame_valid", False), ("frame_index", 9)):
        row = torch.full_like(clip[key][:1], fill)
        longer[key] = torch.cat([clip[key], row])
    sem_seg = torch.cat([output["sem_seg"], torch.zeros_like(output["sem_seg"][:1])])
    sem_seg[2] = 7.0 * torch.rand(sem_seg[2].shape, generator=torch.Generator().manual_seed(1))
    assert run(binary_evaluator(), [(longer, {"sem_seg": sem_seg})]) == want
    # the model returns rows for the frames that exist only
    assert run(binary_evaluator(), [(longer, {"sem_seg": sem_seg[:3]})]) == want


def _rank(rank: int, world_size: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    evaluator = AVSEvaluator(dataset_name="toy", num_classes=2, binary=True, output_dir=out)
    # three clips on rank 0; rank 1 has one of its own and one that rank 0 has seen
    for i in ([0, 1, 2], [3, 0])[rank]:
        clip, output = make_clip(i)
        evaluator.process([clip], [output])
    result = evaluator.evaluate()
    if (result is None) != (rank == 1):
        raise SystemExit(1)
    torch.distributed.destroy_process_group()


def test_two_ranks_score_like_one(tmp_path):
    want = run(binary_evaluator(), [make_clip(i) for i in range(4)])
    mp.start_processes(_rank, (2, str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="spawn")
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["num_clips"] == 4
    assert summary["sem_seg"] == want


def test_files_name_convention_and_hold_every_clip(tmp_path, caplog):
    pairs = [make_clip(i) for i in range(3)]
    with caplog.at_level("INFO"):
        scores = run(binary_evaluator(output_dir=tmp_path, convention="dataset"), pairs)
    assert "Convention 'dataset'" in caplog.text
    assert json.loads((tmp_path / "results.json").read_text())["convention"] == "dataset"
    run(binary_evaluator(output_dir=tmp_path), pairs)
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["convention"] == "combo" and summary["sem_seg"]["M_J"] != scores["M_J"]
    rows = list(csv.DictReader((tmp_path / "per_clip.csv").open()))
    assert [row["clip_id"] for row in rows] == [clip["clip_id"] for clip, _ in pairs]
    mean = sum(float(row["M_J"]) for row in rows) / 3
    assert mean == pytest.approx(summary["sem_seg"]["M_J"], abs=1e-4)  # the table has four decimals
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "per_clip.csv",
        "precision_recall.csv",
        "results.json",
        "results.md",
    ]


@pytest.mark.parametrize("num_classes", [2, 71])
def test_saved_predictions_come_back(tmp_path, num_classes):
    binary = num_classes == 2
    evaluator = AVSEvaluator(
        dataset_name="toy",
        num_classes=num_classes,
        binary=binary,
        output_dir=tmp_path,
        save_predictions=True,
        distributed=False,
    )
    clip, output = make_clip(3, num_classes=num_classes)
    run(evaluator, [(clip, output)])
    got = load_prediction(tmp_path / "predictions", "test/clip3", [0, 1, 2], binary=binary, size=(12, 12))
    np.testing.assert_array_equal(got, output["sem_seg"].argmax(1))
    name = "clip3_1.png" if binary else "labels_semantic/0.png"
    with Image.open(tmp_path / "predictions/test/clip3" / name) as image:
        assert image.mode == ("L" if binary else "P")
        if not binary:
            assert image.getpalette()[3:6] == [128, 0, 0]


def test_bad_predictions_on_disk_are_named(tmp_path):
    save_prediction(tmp_path, "a/b", np.eye(4, dtype=np.int64)[None], [0], binary=True)
    with pytest.raises(FileNotFoundError, match=r"clip 'a/b'.*b_2\.png"):
        load_prediction(tmp_path, "a/b", [0, 1], binary=True)
    with pytest.raises(ValueError, match="4 x 4 pixels but 8 x 8"):
        load_prediction(tmp_path, "a/b", [0], binary=True, size=(8, 8))
    Image.fromarray(np.full((4, 4), 3, np.uint8)).save(tmp_path / "a/b/b_1.png")
    with pytest.raises(ValueError, match="holds the values 3, expected 0 and 255"):
        load_prediction(tmp_path, "a/b", [0], binary=True)
    (tmp_path / "a/b/b_1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b_1\.png.*cannot be read"):
        load_prediction(tmp_path, "a/b", [0], binary=True)
    for name in ("/etc/a", "../a", ""):
        with pytest.raises(ValueError, match="cannot be a folder name"):
            prediction_path(tmp_path, name, 0, binary=True)


def test_errors_name_the_clip():
    clip, output = make_clip(0)
    evaluator = binary_evaluator()
    cases = [
        (clip, {"sem_seg": output["sem_seg"][:, :, :6]}, r"clip0.*shape \(3, 2, 6, 12\)"),
        (clip, {"sem_seg": output["sem_seg"] * float("nan")}, "clip0.*not finite"),
        (clip | {"mask_valid": torch.zeros(3, dtype=torch.bool)}, output, "clip0.*no frame is annotated"),
        (clip | {"masks": clip["masks"] * 2}, output, "clip0.*neither classes 0 to 1 nor 255"),
    ]
    for bad_clip, bad_output, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluator.process([bad_clip], [bad_output])
    with pytest.raises(ValueError, match="0 results for 1 clips"):
        evaluator.process([clip], [])
    with pytest.raises(RuntimeError, match="'toy'"):
        evaluator.evaluate()


def test_built_from_a_configuration():
    cfg = get_cfg()
    cfg.TEST.CONVENTION = "tpavi"
    scores = run(AVSEvaluator(cfg, dataset_name="avsbench_ms3_test"), [make_clip(0)])
    assert set(scores) == {"mIoU", "F", "M_J", "M_F", "boundary_F", "false_positive_share"}
    cfg.MODEL.NUM_CLASSES = 71
    cfg.TEST.CONVENTION = "coco"
    with pytest.raises(ValueError, match="'coco' does not exist; choose one of combo, tpavi, dataset, pooled"):
        AVSEvaluator(cfg, dataset_name="avsbench_avss_test")
    cfg.TEST.CONVENTION = "tpavi"
    with pytest.raises(ValueError, match="names 2 classes, but MODEL.NUM_CLASSES is 71"):
        AVSEvaluator(cfg, dataset_name="avsbench_avss_test", class_names=("background", "object"))
    with pytest.raises(ValueError, match="Binary masks have 2 classes"):
        AVSEvaluator(cfg, dataset_name="avsbench_ms3_test", binary=True)
