"""Settings that joining the gang makes for a whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def _run_in_process(code: str, **variables: str) -> dict[str, Any]:
    """Run code in a new process, because Horovod and the allocator are set up once; returns the printed JSON."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    output: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return output


_IDLE_FOR_A_SECOND = """
import json, os, time
from pathlib import Path
from farandole.training import world

def switches():
    found = 0
    for status in Path("/proc/self/task").glob("*/status"):
        if status.parent.name != str(os.getpid()):
            found += int(status.read_text().split("voluntary_ctxt_switches:")[1].split()[0])
    return found

with world.init():
    before = switches()
    time.sleep(1)
    print(json.dumps({"wakes": switches() - before, **{n: v for n, v in os.environ.items() if "CYCLE" in n}}))
"""


def test_horovods_thread_sleeps_while_idle() -> None:
    output = _run_in_process(_IDLE_FOR_A_SECOND)
    assert (output["HOROVOD_CYCLE_TIME"], output["HOROVOD_IDLE_CYCLE_TIME"]) == ("0.2", "20")
    often = _run_in_process(_IDLE_FOR_A_SECOND, HOROVOD_IDLE_CYCLE_TIME="1")
    assert often["HOROVOD_IDLE_CYCLE_TIME"] == "1", "a setting of the user is kept"
    assert output["wakes"] < 0.3 * often["wakes"]


def test_cycle_time_is_left_to_horovods_autotuning() -> None:
    output = _run_in_process(_IDLE_FOR_A_SECOND, HOROVOD_AUTOTUNE="1")
    assert "HOROVOD_CYCLE_TIME" not in output
