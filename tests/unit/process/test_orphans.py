"""Killing of orphans, and of nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from farandole.process.orphans import GANG_VARIABLE, find_orphans, kill_orphans
from tests.support.queued import wait_until


def _start_detached(mark: str, note: Path) -> int:
    """Start a process that left its parent, its group and its session; return its id."""
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "parent = os.getpid()\n"
        "if os.fork(): os._exit(0)\n"
        "while os.getppid() == parent: time.sleep(0.01)\n"  # which carries the mark as well
        f"open({str(note)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, GANG_VARIABLE: mark}, check=True)
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(note.read_text())


def test_detached_process_is_killed_with_its_gang(tmp_path: Path) -> None:
    own = _start_detached(str(tmp_path / "own"), tmp_path / "own.pid")
    others = _start_detached(str(tmp_path / "others"), tmp_path / "others.pid")
    assert [process.pid for process in find_orphans(str(tmp_path / "own"))] == [own]
    assert kill_orphans(str(tmp_path / "own")) == 1
    assert find_orphans(str(tmp_path / "own")) == []
    assert psutil.Process(others).status() != psutil.STATUS_ZOMBIE
    assert kill_orphans(str(tmp_path / "others")) == 1


def _start_child(mark: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a process, and wait until the kernel shows its environment: that may be after `Popen` returns."""
    process = subprocess.Popen(["sleep", "300"], env={**os.environ, GANG_VARIABLE: mark, **variables})
    wait_until(lambda: psutil.Process(process.pid).environ().get(GANG_VARIABLE) == mark)
    return process


def test_stopped_process_is_killed(tmp_path: Path) -> None:
    process = _start_child(str(tmp_path))
    psutil.Process(process.pid).suspend()
    assert kill_orphans(str(tmp_path)) == 1
    assert process.wait(60) == -9


def test_nothing_is_killed_without_orphans(tmp_path: Path) -> None:
    assert kill_orphans(str(tmp_path)) == 0


def test_only_the_processes_of_a_named_worker_are_killed(tmp_path: Path) -> None:
    mark = str(tmp_path / "job")
    started = [_start_child(mark, HOROVOD_RANK=rank) for rank in ("0", "1")]
    assert kill_orphans(mark, rank=1) == 1
    assert started[1].wait(60) == -9
    assert started[0].poll() is None
    assert kill_orphans(mark) == 1
    assert started[0].wait(60) == -9
