"""Observation of a command from outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.end_to_end.observed_command import observe
from farandole.errors import TrainingError

_SCRIPT = """
import sys
from benchmarks.end_to_end.stopwatch import begin, finish
begin("first")
print("plan: starting", file=sys.stderr)
finish({"roc_auc": 0.5})
"""


def test_parts_come_from_marks_and_from_lines(tmp_path: Path) -> None:
    variables = {"PYTHONPATH": str(Path(__file__).parents[4])}
    part_of = {"plan: starting\n": "second"}.get
    observed = observe([sys.executable, "-c", _SCRIPT], tmp_path, variables, part_of)
    assert set(observed.parts) == {"start of Python", "first", "second", "exit"}
    assert sum(observed.parts.values()) == pytest.approx(observed.seconds, abs=0.1)
    assert observed.output == '{"metrics": {"roc_auc": 0.5}}\n'
    assert observed.cpu_s > 0


def test_failure_reports_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="ended with 3: no rows"):
        observe([sys.executable, "-c", "import sys; print('no rows', file=sys.stderr); sys.exit(3)"], tmp_path, {})
