"""The notebooks as stored in git; tests/acceptance/notebooks runs them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_editor_metadata(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    for cell in code:
        assert cell.outputs == []
        assert cell.execution_count is None
    assert all(not cell.metadata for cell in notebook.cells), "remove the metadata of cells"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert path.stat().st_size < 100_000


def test_every_notebook_is_found() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_prepare_flights"]
