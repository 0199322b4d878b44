"""Robustness from clips on disk to tables: every score against a slow recount, and the command-line tool."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from PIL import Image
from torch import nn

from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.engine.datasets import register_datasets
from ska_vct.experiments.robustness.conditions import ConditionMapper
from ska_vct.experiments.robustness.evaluator import g_miou
from ska_vct.experiments.robustness.run import choose_splits, evaluate_robustness
from ska_vct.synth import SynthSettings, generate
from ska_vct.synth.truth import truth_path

ROOT = Path(__file__).resolve().parents[3]
SIDE, EVAL_SIDE = 64, 48
KINDS = {"plain": "plain", "silent-mover": "mover", "off-screen": "offscreen"}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("benchmark")
    for seed, (name, kind) in enumerate(KINDS.items()):
        settings = SynthSettings(
            subset="ms3", train=0, val=0, test=4, size=32, seed=seed, scenes={kind: 1.0}, series=2, flow_size=8,
            second_object=1.0, both_sound=0.0,
        )  # fmt: skip
        generate(root / name, settings, jobs=1, progress=False)
    return root


class Listener(nn.Module):
    """Segments bright pixels; louder audio and faster motion lower the threshold."""

    def __init__(self, num_classes: int = 2):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, clips):
        return [{"sem_seg": self.scores(clip)} for clip in clips]

    def scores(self, clip) -> torch.Tensor:
        bright = clip["images"].float().mean(1, keepdim=True) / 255
        bright = F.interpolate(bright, (clip["height"], clip["width"]), mode="bilinear", align_corners=False)
        heard = 0.05 * clip["log_mel"].mean((1, 2, 3)) + 0.3 * clip["flow"].abs().mean((1, 2, 3, 4))
        score = 9 * (bright + heard[:, None, None, None] - 0.45)
        return torch.cat([torch.zeros_like(score), score.expand(-1, self.num_classes - 1, -1, -1)], 1)


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.TEST.BATCH_SIZE = 3
    register_datasets(tiny_cfg)
    return tiny_cfg


def folders(benchmark: Path) -> dict[str, Path]:
    return {name: benchmark / name for name in KINDS}


def test_every_score_equals_a_slow_recount(cfg, benchmark):
    conditions = ["true", "silence", "noise", "off_screen"]
    result = evaluate_robustness(cfg, Listener(), folders(benchmark), conditions=conditions, progress=False)
    for name, split in result["splits"].items():
        root = benchmark / name
        records = load_records("ms3", "test", root)
        mapper = ConditionMapper(
            mapper=ClipMapper(cfg, is_train=False), records=records, conditions=conditions, root=root
        )
        assert split["num_clips"] == 4 and list(split["conditions"]) == conditions
        recounts = {condition: Recount() for condition in conditions}
        for record in records:
            for clip in mapper(record):
                prob = Listener().scores(clip).softmax(1)[:, 1]
                recounts[clip["condition"]].add(prob.numpy(), clip["masks"].numpy(), root, record)
        for condition, scores in split["conditions"].items():
            want = recounts[condition].scores()
            found = {key: scores[key] for key in want}
            assert found == pytest.approx(want, abs=1e-4), (name, condition)
            assert scores["M_J"] == scores["conventions"]["combo"]["M_J"]
            assert set(scores["conventions"]) == {"combo", "tpavi", "dataset", "pooled"}
        true = split["conditions"]["true"]
        assert split["G_mIoU"] == {
            condition: pytest.approx(2 / (1 / true["M_J"] + 1 / (100 - split["conditions"][condition]["M_J"])))
            for condition in conditions[1:]
        }
    splits = result["splits"]
    # The splits contain the cases they were made for; otherwise the comparison above would prove little.
    assert splits["silent-mover"]["conditions"]["true"]["silent_moving"] > 0
    assert splits["plain"]["conditions"]["true"]["silent_still"] > 0
    assert 0 < splits["plain"]["conditions"]["true"]["missed"] < 100
    assert splits["off-screen"]["conditions"]["true"]["right"] is None
    assert splits["off-screen"]["conditions"]["true"]["silent_frames"] == 0
    plain = splits["plain"]["conditions"]["true"]["M_J"]
    assert splits["plain"]["drop"] is None
    assert splits["silent-mover"]["drop"] == plain - splits["silent-mover"]["conditions"]["true"]["M_J"]


class Recount:
    """Scores computed frame by frame and object by object, straight from the definitions."""

    def __init__(self):
        self.ious, self.shares = [], []
        self.pixels = dict.fromkeys(("sounding", "silent_still", "silent_moving"), (0, 0))
        self.right = self.wrong = self.both = 0

    def add(self, prob: np.ndarray, masks: np.ndarray, root: Path, record: dict) -> None:
        with np.load(truth_path(root, "ms3", "test", record["name"])) as arrays:
            truth = {name: arrays[name] for name in ("masks", "sounding", "speed")}
        found = prob > 0.5
        ious, shares = [], []
        for frame in range(len(found)):
            mask = masks[frame] == 1
            union = (found[frame] | mask).sum()
            ious.append((found[frame] & mask).sum() / (union + 1e-7) if mask.any() else (~found[frame]).mean())
            shares.append(found[frame].mean())
            self._add_objects(found[frame], **{name: values[frame] for name, values in truth.items()})
        self.ious.append(np.mean(ious))
        self.shares.append(np.mean(shares))

    def _add_objects(
        self, found: np.ndarray, *, masks: np.ndarray, sounding: np.ndarray, speed: np.ndarray
    ) -> None:
        counts = {True: [0, 0], False: [0, 0]}
        for k, sounds in enumerate(sounding.tolist()):
            # The mapper resizes masks like Pillow; here Pillow itself resizes the image.
            image = Image.fromarray(masks[k].astype(np.uint8))
            visible = np.asarray(image.resize((EVAL_SIDE, EVAL_SIDE), Image.Resampling.NEAREST)) > 0
            group = "sounding" if sounds else "silent_moving" if speed[:, k].any() else "silent_still"
            pixels, marked = int(visible.sum()), int((visible & found).sum())
            self.pixels[group] = (self.pixels[group][0] + pixels, self.pixels[group][1] + marked)
            counts[sounds] = [counts[sounds][0] + pixels, counts[sounds][1] + marked]
        (heard, heard_marked), (silent, silent_marked) = counts[True], counts[False]
        if heard and silent:
            self.both += 1
            self.right += heard_marked / heard > 0.5 and silent_marked / silent < 0.5
            self.wrong += heard_marked / heard < 0.5 and silent_marked / silent > 0.5

    def scores(self) -> dict:
        def percent(part, whole):
            return 100 * part / whole if whole else None

        groups = {name: percent(marked, pixels) for name, (pixels, marked) in self.pixels.items()}
        return {
            "M_J": 100 * np.mean(self.ious),
            "FPR": 100 * np.mean(self.shares),
            "missed": None if groups["sounding"] is None else 100 - groups["sounding"],
            "silent_still": groups["silent_still"],
            "silent_moving": groups["silent_moving"],
            "right": percent(self.right, self.both),
            "wrong": percent(self.wrong, self.both),
            "silent_frames": self.both,
        }


def test_batch_size_changes_nothing_and_files_hold_the_result(cfg, benchmark, tmp_path):
    conditions = ["true", "silence", "delayed", "still", "other_flow"]
    results = []
    for batch in (1, 3):
        cfg.TEST.BATCH_SIZE = batch
        results.append(
            evaluate_robustness(
                cfg,
                Listener(),
                folders(benchmark),
                conditions=conditions,
                negatives_on=["plain"],
                out=tmp_path,
                progress=False,
            )  # fmt: skip
        )
    assert results[0] == results[1] == json.loads((tmp_path / "robustness.json").read_text())
    splits = results[0]["splits"]
    assert list(splits["plain"]["conditions"]) == conditions
    assert list(splits["silent-mover"]["conditions"]) == ["true"]
    # The listener depends on motion and audio, so every condition changes its score.
    values = {name: scores["FPR"] for name, scores in splits["plain"]["conditions"].items()}
    assert len({round(value, 6) for value in values.values()}) == len(conditions)
    with (tmp_path / "per_clip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * (5 + 1 + 1)
    mine = [row for row in rows if (row["split"], row["condition"]) == ("plain", "silence")]
    mean = sum(float(row["M_J"]) for row in mine) / len(mine)
    assert mean == pytest.approx(splits["plain"]["conditions"]["silence"]["M_J"], abs=1e-4)
    pixels = [sum(int(row[f"silent_still_{what}"]) for row in mine) for what in ("segmented", "pixels")]
    assert 100 * pixels[0] / pixels[1] == splits["plain"]["conditions"]["silence"]["silent_still"]
    page = (tmp_path / "robustness.md").read_text()
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(titles) == 5 and "Percent; M_J, M_F, G-mIoU and drop in convention `combo`." in page
    assert f"{splits['silent-mover']['drop']:.2f}" in page


def test_pixels_of_any_class_but_background_count_as_segmented(cfg, tmp_path):
    settings = SynthSettings(
        subset="avss", train=0, val=0, test=2, size=32, seconds=5, series=2, flow_size=8, second_object=1.0,
        both_sound=0.0,
    )  # fmt: skip
    generate(tmp_path, settings, jobs=1, progress=False)
    cfg.DATASETS.TEST = ("avsbench_avss_test",)
    cfg.MODEL.NUM_CLASSES = 71
    model = Listener(num_classes=71)
    result = evaluate_robustness(cfg, model, {"avss": tmp_path}, conditions=["true", "silence"], progress=False)
    split = result["splits"]["avss"]
    shares = []
    mapper = ClipMapper(cfg, is_train=False)
    for record in load_records("avss", "test", tmp_path):
        shares.append(float((model.scores(mapper(record)).argmax(1) > 0).double().mean()))
    true = split["conditions"]["true"]
    assert true["FPR"] == pytest.approx(100 * np.mean(shares))
    assert true["M_J"] == true["conventions"]["combo"]["mIoU"] and true["boundary_F"] is None
    assert 0 < true["silent_still"] < 100 and set(split["G_mIoU"]) == {"silence"}


@pytest.mark.parametrize(
    ("positive", "negative", "want"),
    [(80, 20, 80), (60, 60, 48), (0, 100, 0), (100, 0, 100)],  # 2 * 60 * 40 / 100 = 48
)
def test_g_miou_by_hand(positive, negative, want):
    assert g_miou(positive, negative) == want


def test_a_benchmark_is_found_by_its_folders(cfg, benchmark, tmp_path, caplog):
    assert choose_splits(cfg, benchmark=benchmark) == {name: f"{benchmark}/{name}" for name in KINDS}
    assert "has no silent-twin, camera-motion, weak-motion" in caplog.text
    mine = choose_splits(cfg, data=[("mine", str(benchmark / "plain"))])
    assert mine == {"mine": str(benchmark / "plain")}
    cfg.DATASETS.ROOT = "somewhere"
    assert choose_splits(cfg) == {"avsbench_ms3_test": "somewhere"}
    with pytest.raises(ValueError, match="'plain' is named twice"):
        choose_splits(cfg, benchmark=benchmark, data=[("plain", str(tmp_path))])
    with pytest.raises(FileNotFoundError, match="none of the benchmark's splits"):
        choose_splits(cfg, benchmark=tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere' for split 'a'"):
        choose_splits(cfg, data=[("a", "nowhere")])
    with pytest.raises(ValueError, match="no split typo to change"):
        evaluate_robustness(cfg, Listener(), mine, negatives_on=["typo"])
    cfg.DATASETS.TEST = ("avsbench_s4_test",)
    with pytest.raises(ValueError, match="laid out as MS3"):
        choose_splits(cfg, benchmark=benchmark)


def test_the_tool_writes_tables_and_requires_weights(cfg, benchmark, tmp_path):
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "model.pth")
    words = [
        sys.executable, "tools/evaluate_robustness.py", "--config", str(tmp_path / "config.yaml"),
        "--weights", str(tmp_path / "model.pth"), "--num-gpus", "0", "--data", f"plain={benchmark / 'plain'}",
        "--conditions", "true", "silence", "--out", str(tmp_path / "out"), "TEST.BATCH_SIZE", "4",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == (tmp_path / "out" / "robustness.md").read_text().strip()
    result = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert result["splits"]["plain"]["num_clips"] == 4

    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "evaluate_robustness.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for missing, wrong in (("--weights", None), ("--weights", ""), ("--data", "plain")):
        index = words.index(missing)
        arguments = words[2:index] + ([] if wrong is None else [missing, wrong]) + words[index + 2 :]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["tool", *arguments])
            tool.main()
        # argparse exits with 2; our own errors exit with a sentence.
        assert ended.value.code == 2 or "MODEL.WEIGHTS" in ended.value.code
