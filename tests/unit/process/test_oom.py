"""Counts of out-of-memory kills by the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farandole.process import oom
from farandole.process.oom import OomCounter


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the kernel's file with the count of this process's group."""
    monkeypatch.setattr(oom, "_ROOT", tmp_path)
    monkeypatch.setattr(oom, "_count_file", lambda pid: tmp_path / "memory.events" if pid else None)
    (tmp_path / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    return tmp_path / "memory.events"


def test_only_a_risen_count_is_evidence(kernel: Path) -> None:
    counts = OomCounter()
    counts.observe(1, os.getpid())
    assert counts.evidence(1) is None
    kernel.write_text("low 0\noom 3\noom_kill 2\n")
    assert counts.evidence(1) == f"{kernel}: oom_kill rose from 1 to 2"
    assert counts.evidence(0) is None, "another worker, whose group was never observed"


def test_removed_group_is_not_evidence(kernel: Path) -> None:
    counts = OomCounter()
    counts.observe(1, os.getpid())
    kernel.unlink()
    assert counts.evidence(1) is None


def test_count_of_this_process_is_a_number() -> None:
    file = oom._count_file(os.getpid())
    if file is None:
        pytest.skip("no memory group here")
    count = oom._count(file)
    assert count is not None
    assert count >= 0


def test_ended_process_has_no_group() -> None:
    assert oom._count_file(2**22 + 1) is None
