"""How commands end: a sentence for what the input causes, a traceback and a request for a report for defects."""

import traceback

import pytest

from ska_vct.cli._parser import command_parser
from ska_vct.utils.cli import one_sentence_errors
from ska_vct.utils.errors import FileSystemError, InputError, MissingFileError, SkaVctError, UnknownNameError


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InputError("A is 3; set it to 4."), ValueError),
        (UnknownNameError("There is no 'x'; choose y."), KeyError),
        (MissingFileError("There is no file 'x'."), FileNotFoundError),
        (FileSystemError("Cannot write to 'x'."), OSError),
    ],
)
def test_errors_of_the_input_are_one_sentence(error, builtin, monkeypatch, capsys):
    monkeypatch.delenv("SKA_VCT_DEBUG", raising=False)
    assert isinstance(error, SkaVctError) and isinstance(error, builtin)
    with pytest.raises(SystemExit) as caught, one_sentence_errors():
        raise error
    line = f"error: {error.args[0]} (traceback with SKA_VCT_DEBUG=1)"
    assert caught.value.code == 2 and capsys.readouterr().err == line + "\n" and str(caught.value) == line
    monkeypatch.setenv("SKA_VCT_DEBUG", "1")
    with pytest.raises(builtin), one_sentence_errors():
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("too many values"), KeyError("x"), RuntimeError("shape"), TypeError()]
)
def test_a_defect_keeps_its_traceback_and_asks_for_a_report(error, capsys):
    with pytest.raises(type(error)) as caught, one_sentence_errors(), one_sentence_errors():
        raise error
    text = "".join(traceback.format_exception(caught.value)) + capsys.readouterr().err
    assert text.count("Please report it") == 1


def test_a_missing_package_is_named_and_a_missing_module_of_ours_is_a_defect():
    with pytest.raises(SystemExit, match="Detectron2.*install_detectron2.py"), one_sentence_errors():
        raise ModuleNotFoundError("No module named 'detectron2.config'", name="detectron2.config")
    with pytest.raises(SystemExit, match="no module 'timm'.*setup-only"), one_sentence_errors():
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    with pytest.raises(ModuleNotFoundError), one_sentence_errors():
        import ska_vct.utils.no_such_module  # noqa: F401


def test_the_sentence_of_a_data_loaders_worker_is_found():
    message = (
        "Caught ClipError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    )
    with pytest.raises(SystemExit) as caught, one_sentence_errors():
        raise InputError(message + "ska_vct.structures.clip.ClipError: Clip 'a': no audio; unpack it.\n")
    assert str(caught.value).startswith("error: Clip 'a': no audio; unpack it.")


def test_help_fits_the_terminal_and_keeps_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    command = "    python tools/x.py --config configs/synth/quickstart.yaml SOLVER.MAX_ITER 2"
    lines = [
        "Does something.\n\nExamples:", "    short --one  # why", command, f"{command}  # tiny", "    first \\",
        "        --second", "\n" + "Many words in one long paragraph. " * 5, "And more.\n",
        "  word   what the word means to a reader of all these lines",
    ]  # fmt: skip
    text = command_parser("\n".join(lines)).format_help()
    assert max(len(line) for line in text.splitlines()) <= 60 and "\nExamples:\n" in text
    # The shell joins what is continued behind a backslash.
    assert text.replace(" \\\n       ", "").count(command) == 2
    assert "    short --one  # why\n" in text and "\n    # tiny\n    python" in text
    assert "    first \\\n        --second\n" in text
    assert "  word   what the word means to a reader of all these\n         lines\n" in text
