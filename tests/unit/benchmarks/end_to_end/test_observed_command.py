"""Observation of a command from outside."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.end_to_end.observed_command import observe
from farandole.errors import TrainingError
from tests.support.queued import wait_for_end

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


_LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
print("waiting", file=sys.stderr, flush=True)
time.sleep(float(sys.argv[1]))
"""


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    observed = observe([sys.executable, "-c", _LEAVES_A_CHILD, "0"], tmp_path, {})
    assert observed.seconds < 300, "the pipes that the child holds delay nothing"
    wait_for_end(int(observed.output))


def test_timeout_ends_the_whole_group_and_is_reported(tmp_path: Path) -> None:
    child = tmp_path / "child"
    command = (
        f"{shlex.quote(sys.executable)} -c 'import time; time.sleep(600)' & echo $! > {child}; echo waiting >&2; wait"
    )
    with pytest.raises(TrainingError, match=r"^sh -c .* did not end within 3 s: waiting$"):
        observe(["sh", "-c", command], tmp_path, {}, timeout_s=3)
    wait_for_end(int(child.read_text()))
