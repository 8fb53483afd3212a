from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from farandole.process.locks import boot_id, start_ticks, try_lock, try_lock_job, wait_for_lock

_HOLDS = "import sys; from pathlib import Path; from farandole.process.locks import take; "
_HOLDS += "hold = take(Path(sys.argv[1])); print(hold is not None, flush=True); sys.stdin.read()"


def test_a_lock_is_held_once_and_can_be_given_back(tmp_path: Path) -> None:
    hold = try_lock(tmp_path / "lock")
    assert hold is not None
    assert try_lock(tmp_path / "lock") is None
    hold.release()
    again = wait_for_lock(tmp_path / "lock")
    again.release()


def test_the_kernel_takes_the_lock_of_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert try_lock(path) is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_for_lock(path).release()


def test_what_a_job_starts_does_not_hold_its_lock(tmp_path: Path) -> None:
    hold = try_lock_job(tmp_path)
    assert hold is not None
    child = subprocess.Popen(["sleep", "60"])
    hold.release()
    again = try_lock_job(tmp_path)
    child.kill()
    child.wait()
    assert again is not None
    again.release()


def test_a_process_is_known_by_its_number_and_when_it_began() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid())
    child = subprocess.Popen(["true"])
    child.wait()
    assert start_ticks(child.pid) is None
    assert len(boot_id()) == 36
