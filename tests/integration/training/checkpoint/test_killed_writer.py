"""Kills of the process that writes checkpoints."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import torch

from farandole.training.checkpoint.backends import DirectoryBackend
from farandole.training.checkpoint.manager import CheckpointManager


def test_writer_killed_at_any_moment_leaves_a_complete_newest_checkpoint(tmp_path: Path) -> None:
    """Kill a process that saves in a loop, twenty times: the newest checkpoint is the last reported one, or newer."""
    delays = random.Random(17)
    num_newer_steps = 0
    step = 0
    for _ in range(20):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            _save_forever(tmp_path, step, write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as reports:
            first = reports.readline()  # at least one is complete, so the kill interrupts the next one
            time.sleep(delays.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reported = int([first, *reports.readlines()][-1])
        warnings: list[str] = []
        found = _manager(tmp_path).load_newest(warnings.append, lambda state: None)
        assert warnings == []
        assert found is not None
        assert found.meta["step"] >= reported > step
        assert all(torch.all(value == found.meta["step"]) for value in found.state["model"].values())
        num_newer_steps += found.meta["step"] - step
        step = found.meta["step"]
    DirectoryBackend(tmp_path).clean_up()
    assert len(list(tmp_path.iterdir())) <= 4  # two are kept; a kill may fall before the old ones are removed
    assert num_newer_steps >= 20


def _manager(directory: Path) -> CheckpointManager:
    return CheckpointManager(DirectoryBackend(directory), "mine", keep=2)


def _save_forever(directory: Path, step: int, reports: int) -> None:
    try:
        manager = _manager(directory)
        manager.clean_up()
        while True:
            step += 1
            manager.put({"model": {f"w{number}": torch.full((20_000,), step) for number in range(5)}}, {"step": step})
            os.write(reports, f"{step}\n".encode())
    finally:
        os._exit(1)
