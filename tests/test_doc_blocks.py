"""Every block of every page: its commands are parsed by their own programs, and run on tiny clips and models."""

import argparse
import contextlib
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ska_vct.cli.train import build_parser
from ska_vct.engine.setup import load_cfg
from ska_vct.synth import SynthSettings, generate
from tests.data.miniature import make_original
from tests.test_docs import COMMANDS, CONFIG_KEY, PAGES, ROOT, code_blocks, commands_of

RUN = "run here"
# Start of a command -> how it is tried: RUN, the test that runs the same program, or why no test can.
HOW = {
    "python datasets/check.py": RUN,
    "python datasets/compute_flow.py": RUN,
    "python datasets/flow_quality.py": RUN,
    "python datasets/from_videos.py": RUN,
    "python datasets/prepare.py": RUN,
    "python datasets/make_synth.py --root": RUN,
    "python tools/train_net.py --config configs/ms3/swin_b_384.yaml": "needs published weights or several GPUs",
    "python tools/train_net.py": RUN,
    "python tools/visualize.py": RUN,
    "python tools/predict.py": RUN,
    "python tools/score.py": RUN,
    "python tools/evaluate_robustness.py": RUN,
    "python tools/analyze_model.py --config-file configs/s4/r50.yaml --fit": "tests/profiling/test_costs.py",
    "python tools/analyze_model.py --config-file configs/ms3/swin_b_384": "tests/profiling/test_costs.py",
    "python tools/analyze_model.py": RUN,
    "python datasets/make_synth.py --benchmark": "tests/synth/test_benchmark.py",
    "python datasets/make_cards.py": "tests/experiments/test_dataset_cards.py",
    "python datasets/make_composites.py": "tests/synth/composites",
    "python datasets/make_premasks.py": "tests/data/test_prepare.py",
    "python tools/benchmark.py": "tests/profiling/test_timing.py",
    "python tools/convert_checkpoint.py": "tests/checkpoint/convert",
    "python tools/demo_app.py": "tests/deploy/test_demo.py",
    "python tools/export.py": "tests/deploy/test_export.py",
    "python tools/leak_check.py": "tests/experiments/leakage/test_check.py",
    "python tools/run_ablation.py": "tests/experiments/ablation/test_ablation.py",
    "python tools/study_ska.py": "tests/experiments/map_study/test_study.py",
    "python scripts/compare_vct.py": "tests/scripts/test_compare_vct.py",
    "python scripts/join_overlays.py": RUN,
    "python scripts/predict_memory.py": "measures for minutes",
    "python tests/faults/": "tests/faults",
    "python tests/parity/run.py": "tests/test_docs.py",
    "bash scripts/train_demo.sh": "takes hours",
    "bash scripts/": "what continuous integration starts with",
    "torchrun ": "tests/engine/test_program.py",
    "sbatch ": "tests/scripts/test_slurm_train.py",
    "ska-vct-train ": "tests/engine/test_cluster.py",
    "tensorboard ": "serves until it is stopped",
    ".venv/bin/pre-commit": "changes the repository",
    "source ": "changes the shell",
    "export ": "changes the shell",
    "pip ": "needs a network",
    "git clone ": "needs a network",
    "apt-get ": "needs a network",
}
# The same model, small; from scratch, on the CPU.
TINY = {
    "MODEL.PRETRAINED": False, "MODEL.PRE_MASK.ENABLED": False, "MODEL.HIDDEN_DIM": 32,
    "MODEL.TIMM.NAME": "resnet10t", "MODEL.BACKBONE.NAME": "build_timm_backbone",
    "MODEL.DECODER.NUM_LAYERS": 3, "MODEL.DECODER.NUM_QUERIES": 6, "MODEL.DECODER.FEEDFORWARD_DIM": 32,
    "MODEL.PIXEL_DECODER.ENC_LAYERS": 1, "MODEL.AUDIO.MLP_DIMS": "[32, 32]",
    "MODEL.AUDIO.CHANNELS": "[4, 4, 8, 8, 16, 16]", "MODEL.MPQG.PRE_DIM": 16, "MODEL.MPQG.MIXER_DIM": 16,
    "MODEL.BRM.DIM": 8, "INPUT.SIZE": "(32, 32)", "INPUT.FRAMES_PER_CLIP": 1, "SOLVER.MAX_ITER": 1,
    "SOLVER.IMS_PER_BATCH": 2, "DATALOADER.NUM_WORKERS": 0, "INPUT.FLOW.MISSING": "zero", "TEST.IMAGES": 1,
    "LOG.WANDB": "",
}  # fmt: skip
TINY_WORDS = [str(word) for pair in TINY.items() for word in pair]
TAKES_KEYS = ("tools/train_net.py", "tools/analyze_model.py", "tools/visualize.py", "tools/evaluate_robustness.py")
# Options of a long command -> values of a short one; None leaves the option out.
SHORT = {
    "--train": ["2"], "--val": ["1"], "--test": ["2"], "--size": ["32"], "--num": ["1"], "--num-gpus": ["0"],
    "--method": ["dis"], "--methods": ["dis"], "--batch": ["2"], "--num-machines": None, "--machine-rank": None,
    "--dist-url": None, "--jobs": ["1"],
}  # fmt: skip
# What a page writes below the release is written beside it here, so that blocks do not meet.
ADDED = {
    "datasets/compute_flow.py": ["--out", "flow", "--jobs", "1"],
    "datasets/prepare.py": ["--out", "prepared", "--jobs", "1"],
}
PLACES = {
    "<root>": "release", "datasets": "release", "<published flow>": "release/flow",
    "<folder or .json>": "predictions", "datasets/synth_benchmark/train": "datasets/synth",
}  # fmt: skip


class Block(NamedTuple):
    page: str
    number: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


BLOCKS = [
    Block(str(page.relative_to(ROOT)), number, language, content)
    for page in PAGES
    for number, (language, content) in enumerate(code_blocks(page.read_text(encoding="utf-8")))
]
# Whole modules and configs, written to files and trained by tests/doors.
EXTENDING = "docs/extending.md"
BASH = [block for block in BLOCKS if commands_of(block.language, block.content)]
PYTHON = [block for block in BLOCKS if block.language == "python" and block.page != EXTENDING]


def how(words: list[str]) -> str:
    line = " ".join(words)
    return next((way for start, way in HOW.items() if line.startswith(start)), "")


class _ParsedError(Exception):
    """Ends a program once it has parsed its arguments."""


@contextlib.contextmanager
def started(words: list[str], monkeypatch) -> Iterator[None]:
    """The script ``words[0]`` with its arguments, in this process."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "path", [str((ROOT / words[0]).parent), *sys.path])
        yield


def parsed(words: list[str], monkeypatch) -> argparse.Namespace:
    """What a script's own parser makes of its arguments."""
    parse_args, found = argparse.ArgumentParser.parse_args, []

    def parse_and_end(self, args=None, namespace=None):
        found.append(parse_args(self, args, namespace))
        raise _ParsedError

    with started(words, monkeypatch), monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        with contextlib.suppress(_ParsedError):
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    return found[0]


def joined(words: list[str]) -> list[str]:
    """``<a folder>``, which the shell would split, as one word."""
    result: list[str] = []
    for word in words:
        if result and result[-1].startswith("<") and not result[-1].endswith(">"):
            result[-1] += f" {word}"
        else:
            result.append(word)
    return result


def shortened(words: list[str]) -> list[str]:
    """A script and its arguments for tiny clips and models."""
    script, *arguments = joined(words)
    result, keys = [], []
    option: str | None = None
    for word in arguments:
        if keys or CONFIG_KEY.fullmatch(word):
            keys.append(word)
        elif word.startswith("--"):
            option = word
            if SHORT.get(option, []) is not None:
                result += [option, *SHORT.get(option, [])]
        elif option not in SHORT and not (option == "--config-file" and result[-2:-1] == [option]):
            result.append(PLACES.get(word, word))
    if "datasets/own/own.yaml" not in arguments:
        result += ADDED.get(script, [])
    if script in TAKES_KEYS:
        result += [*keys, *TINY_WORDS]
    if script == "tools/analyze_model.py":
        # Batch norm needs two values per channel, also in the coarsest features of one frame.
        result += ["INPUT.SIZE", "(64, 64)"]
    return [script, *result]


def run(words: list[str], monkeypatch, statuses: tuple = (0, None)) -> None:
    with started(words, monkeypatch):
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as ended:
            assert ended.code in statuses, f"{' '.join(words)}: {ended.code}"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The folder of a user who has data, videos, and models of the quickstart and of S4."""
    home = tmp_path_factory.mktemp("home")
    for subset in ("s4", "ms3", "avss"):
        make_original(home / "release", subset)
    sizes = {"train": 2, "val": 1, "test": 2, "size": 32, "flow_size": 8, "series": 2, "fps": 8}
    settings = SynthSettings(subset="ms3", scenes={"twin": 1.0}, **sizes)
    generate(home / "datasets" / "synth", settings, jobs=1, progress=False)
    (home / "datasets" / "synth_benchmark").mkdir()
    (home / "datasets" / "synth_benchmark" / "silent-twin").symlink_to(home / "datasets" / "synth")
    clips = home / "release/AVSBench_object/Multi-sources/ms3_data"
    shutil.copytree(clips / "raw_videos", home / "my_videos")
    (home / "my_masks").mkdir()
    for folder in (clips / "gt_masks").glob("*/*"):
        # Names end with the second, here from 1.
        for number, path in enumerate(sorted(folder.iterdir())):
            (home / "my_masks" / folder.name).mkdir(exist_ok=True)
            shutil.copy(path, home / "my_masks" / folder.name / f"{number}.png")
    video = next((home / "my_videos").iterdir())
    for name in ("my_video.mp4", "bigbuckbunny.mp4", "my_muted_copy.mp4"):
        shutil.copy(video, home / name)
    (home / "my_folder").mkdir()
    shutil.copy(video, home / "my_folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("DETECTRON2_DATASETS", "release")
        quickstart = ["--config", "configs/synth/quickstart.yaml", "--num-gpus", "0"]
        out = [
            "OUTPUT_DIR", "output/quickstart/train", "TEST.SAVE_PREDICTIONS", "True", "DATASETS.ROOT", "release",
            "DATASETS.VAL", "('avsbench_ms3_test',)",
        ]  # fmt: skip
        run(["tools/train_net.py", *quickstart, *TINY_WORDS, *out], patch)
        s4 = ["--config", "configs/s4/r50.yaml", "--num-gpus", "0"]
        run(["tools/train_net.py", *s4, *TINY_WORDS, "TEST.EVAL_PERIOD", "0"], patch)
    shutil.move(home / "output/quickstart/train/inference/avsbench_ms3_test/predictions", home / "predictions")
    return home


@pytest.fixture
def folder(home, tmp_path, monkeypatch) -> Path:
    """A copy of ``home`` to run one block in."""
    shutil.copytree(home / "output", tmp_path / "output")
    for path in home.iterdir():
        if path.name != "output":
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", "release")
    return tmp_path


def test_every_block_is_of_a_kind_that_a_test_tries():
    for block in BLOCKS:
        assert block.language in ("bash", "python", "yaml", ""), str(block)
        assert block.language != "yaml" or block.page == EXTENDING, f"{block}: no test reads this YAML"
    doors = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "doors").glob("*.py"))
    sections = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (ROOT / EXTENDING).read_text(), re.M | re.S)
    shown = [title for title, text in sections if "```python" in text or "```yaml" in text]
    trained = re.findall(r"example\(['\"]([\w ]+)", doors)
    assert len(shown) >= 5 and set(shown) == set(trained)


def test_every_command_has_a_way_to_try_it():
    assert [str(command) for command in COMMANDS if not how(command.words)] == []
    for start, way in HOW.items():
        assert " " in way or (ROOT / way).exists(), (start, way)
        assert any(" ".join(command.words).startswith(start) for command in COMMANDS), f"no page has '{start}'"


@pytest.mark.parametrize("block", BASH, ids=str)
def test_arguments_are_understood(block, monkeypatch):
    for words in commands_of(block.language, block.content):
        if words[0] == "torchrun":
            launcher = pytest.importorskip("torch.distributed.run").get_args_parser()
            split = words.index("tools/train_net.py")
            launcher.parse_args(words[1 : split + 1])
            words = ["python", *words[split:]]
        if words[0] == "ska-vct-train":
            args = build_parser("").parse_args(words[1:])
        elif words[0] == "python" and "--help" not in words:
            args = parsed(joined(words[1:]), monkeypatch)
        else:
            continue
        configs = getattr(args, "config_file", None) or []
        for config in [configs] if isinstance(configs, str) else configs:
            # The other one is written by the block's first command.
            if config != "datasets/own/own.yaml":
                load_cfg(config, getattr(args, "opts", []))


def test_arguments_that_no_parser_knows_are_found(monkeypatch):
    with pytest.raises(SystemExit):
        parsed(["datasets/check.py", "--rot", "."], monkeypatch)


def test_long_commands_are_shortened():
    words = "tools/train_net.py --num-gpus 2 --dist-url tcp://a:1 SOLVER.IMS_PER_BATCH 8".split()
    assert shortened(words)[:5] == ["tools/train_net.py", "--num-gpus", "0", "SOLVER.IMS_PER_BATCH", "8"]
    assert shortened("datasets/check.py --root <root>".split()) == ["datasets/check.py", "--root", "release"]


@pytest.mark.parametrize("block", BASH, ids=str)
def test_commands_run(block, request, monkeypatch):
    wanted = [words for words in commands_of(block.language, block.content) if how(words) == RUN]
    if not wanted:
        pytest.skip("run elsewhere: HOW says where")
    folder = request.getfixturevalue("folder")
    if any(words[1] in ("datasets/make_synth.py", "datasets/from_videos.py") for words in wanted):
        # They write below "datasets", and do not replace clips with other settings.
        (folder / "datasets").unlink()
    for words in wanted:
        # Frames of the miniature's S4 have no source in its AVSS, which prepare.py says with status 1.
        statuses = (0, None, 1) if words[1] == "datasets/prepare.py" else (0, None)
        run(shortened(words[1:]), monkeypatch, statuses)


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}))
def test_python_blocks_run(page, folder):
    """In their order, in one namespace, as a reader would paste them."""
    names = {
        "frames": np.zeros((2, 48, 64, 3), np.uint8), "samples": np.zeros(32_000, np.float32),
        "sample_rate": 16_000,
    }  # fmt: skip
    for block in PYTHON:
        if block.page == page:
            exec(compile(block.content, str(block), "exec"), names)
    if "prediction" in names:
        assert names["prediction"].labels.shape == (2, 48, 64)
