"""Random bodies, guided by coverage, for everything that turns a body into rows and rows into features."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

RUNS = int(os.environ.get("FARANDOLE_FUZZ_RUNS", "2000"))
"""Bodies for each target; 100,000 or more for a release."""
TARGETS = ("json", "tensors", "arrow", "image", "made-rows", "made-tensors", "made-tables")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the models, which the first target writes, and of bodies that were answered wrongly."""
    return tmp_path_factory.mktemp("fuzzing")


@pytest.mark.slow(seconds=30)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("target", "runs"), [*((target, RUNS) for target in TARGETS), ("explained", max(RUNS // 20, 20))]
)
def test_every_body_is_answered_with_a_prediction_or_a_meant_error(folder: Path, target: str, runs: int) -> None:
    command = [sys.executable, "-m", "tests.support.fuzz_service", target, str(folder), f"-runs={runs}", "-seed=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    assert f"Done {runs} runs in" in done.stderr, done.stderr[-2000:]
