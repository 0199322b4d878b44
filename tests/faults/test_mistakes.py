"""Mistakes of users end with one sentence and exit status 2, and the table of values knows every key."""

import pytest

from ska_vct import config_values
from ska_vct.cli import predict, train, visualize
from ska_vct.data.audio.files import AUDIO_SOURCES
from ska_vct.data.audio.negatives import NEGATIVE_KINDS
from ska_vct.data.flow.camera import CAMERAS
from ska_vct.data.flow.methods.registry import CLASSICAL
from ska_vct.data.flow.store import NORMS
from ska_vct.data.own import ANNOTATED
from ska_vct.engine.amp import DTYPES
from ska_vct.engine.setup import load_cfg
from ska_vct.evaluation.names import CONVENTIONS
from ska_vct.modeling.layers.deform_attn.choice import DEFORM_IMPLEMENTATIONS
from ska_vct.modeling.motion.temporal_ska import AUDIO_CHOICES, ENERGY_UNITS, MAP_CHOICES
from tests.faults.mistakes import FILE, MISTAKES, Mistake

COMMANDS = {
    "train": train.main,
    "eval": train.main_eval,
    "predict": predict.main,
    "visualize": visualize.main,
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_mistake_ends_with_one_sentence(mistake: Mistake, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.delenv("SKA_VCT_DEBUG", raising=False)
    if mistake.yaml:
        (tmp_path / FILE).write_text(mistake.yaml)
    with pytest.raises(SystemExit) as ended:
        COMMANDS[mistake.command](mistake.words)
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed.err
    lines = [line for line in printed.err.splitlines() if "error: " in line]
    assert len(lines) == 1 and printed.err.splitlines()[-1] == lines[0]
    assert mistake.says in lines[0]
    assert "Traceback" not in printed.err + printed.out


def test_there_are_as_many_mistakes_as_were_promised():
    assert len(MISTAKES) >= 98 and len({str(m) + m.yaml for m in MISTAKES}) >= 98


def test_defaults_follow_the_table():
    load_cfg()


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("INPUT.AUDIO.SOURCE", AUDIO_SOURCES),
        ("INPUT.FLOW.CAMERA", CAMERAS),
        ("INPUT.FLOW.NORM", NORMS),
        ("INPUT.FLOW.METHOD", CLASSICAL),
        ("DATASETS.OWN.ANNOTATED", ANNOTATED),
        ("SOLVER.AMP.DTYPE", ("auto", *DTYPES)),
        ("TEST.CONVENTION", CONVENTIONS),
        ("MODEL.PIXEL_DECODER.DEFORM_ATTN", ("auto", *DEFORM_IMPLEMENTATIONS)),
        ("MODEL.SKA.AUDIO", AUDIO_CHOICES),
        ("MODEL.SKA.MAP", MAP_CHOICES),
        ("MODEL.SKA.ENERGY_UNIT", ENERGY_UNITS),
    ],
)
def test_names_in_the_table_are_those_of_the_code(key, names):
    assert config_values.RULES[key].allowed == f"one of {', '.join(names)}"


def test_kinds_of_negatives_are_those_of_the_code():
    assert ", ".join(NEGATIVE_KINDS) in config_values.RULES["INPUT.AUDIO.NEGATIVE_KINDS"].allowed
