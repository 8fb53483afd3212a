"""The notebooks, run from the first cell to the last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.shards import Dataset
from tests.support.paths import ROOT


@pytest.mark.slow(seconds=70)
@pytest.mark.timeout(560)
def test_the_flights_notebook_runs_from_the_first_cell_to_the_last(farandole_home: Path, tmp_path: Path) -> None:
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
    assert sum(path.stat().st_size for path in Path(dataset.directory).rglob("*.arrow")) < 20e6
