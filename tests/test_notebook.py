"""docs/quickstart.ipynb runs from start to end, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "quickstart.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_holds_no_outputs(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 5
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}


def test_it_runs_and_draws(notebook, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    data = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in item for item in data) == 2
    assert any("(5, 2, 64, 64)" in item.get("text/plain", "") for item in data)
    # Neither warnings of libraries nor of ours.
    texts = [output.text for output in outputs if output.output_type == "stream"]
    assert [text for text in texts if "arning" in text or "WARNING" in text] == []
