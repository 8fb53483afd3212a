"""The notebooks: stripped in git, and run from the first cell to the last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from farandole.shards import Dataset
from tests.support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_its_runs_left(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    for cell in code:
        assert cell.outputs == []
        assert cell.execution_count is None
    assert all(not cell.metadata for cell in notebook.cells), "remove what an editor noted about cells"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert path.stat().st_size < 100_000


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_prepare_flights"]


@pytest.mark.slow(seconds=70)
@pytest.mark.timeout(560)
def test_the_flights_are_prepared_from_the_first_cell_to_the_last(farandole_home: Path, tmp_path: Path) -> None:
    arguments = ["--nbmake", "--nbmake-timeout=500", "--timeout=540", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, str(ROOT / "notebooks" / "01_prepare_flights.ipynb")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "FARANDOLE_HOME": str(farandole_home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    dataset = Dataset(farandole_home / "datasets" / "flights-notebook")
    assert sum(dataset.manifest.row_counts.values()) == 327_346
    assert sum(path.stat().st_size for path in dataset.directory.rglob("*.arrow")) < 20e6
