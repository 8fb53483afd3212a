"""A job's process, with trivial work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.backends.local.queue import Queue
from farandole.backends.records import JobRecord
from farandole.jobdir.outcome import read_outcome, read_result
from farandole.process.parent_death import PARENT_VARIABLE
from tests.support.queued import shell_job, wait_until

_IMPORTS = (
    "from farandole.backends.local.job_process import run_job_process\n"
    "from farandole.errors import *\n"
    "import os, time\n"
)
_SLEEP = "def do(job, directory, on_event):\n    (directory / 'began').touch()\n    time.sleep(600)\n"


@pytest.fixture
def directory(farandole_home: Path) -> Path:
    path = farandole_home / "jobs" / "tiny-1"
    path.mkdir(parents=True)
    (path / "job.json").write_text(shell_job().model_dump_json())
    return path


def _start(do: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{_IMPORTS}{do}run_job_process(do)", "--directory", str(directory)],
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_result_document_is_written_and_the_outcome_names_the_model(directory: Path) -> None:
    do = "def do(job, directory, on_event):\n    return {'job': job.name, 'model': {'uri': 'models:/tiny/1'}}\n"
    with _start(do, directory) as process:
        assert process.wait() == 0
    assert read_result(directory) == {"job": "tiny", "model": {"uri": "models:/tiny/1"}}
    assert read_outcome(directory) == "trained models:/tiny/1"


@pytest.mark.parametrize(
    ("what", "code", "reason"),
    [
        ("SpecError('train.epochs: 0; use at least 1', detail='the evidence')", 2, "train.epochs: 0; use at least 1"),
        ("UnavailableError('there is no Java')", 3, "there is no Java"),
        ("KeyError('x')", 1, "KeyError: 'x'; the log has the stack trace"),
    ],
)
def test_error_is_the_outcome_and_its_detail_is_in_the_log(directory: Path, what: str, code: int, reason: str) -> None:
    with _start(f"def do(job, directory, on_event):\n    raise {what}\n", directory) as process:
        output, _ = process.communicate()
    assert process.returncode == code
    assert read_outcome(directory) == reason
    assert read_result(directory) is None
    if code != 3:
        assert "the evidence" in output or "Traceback" in output


def test_sigterm_ends_it_through_its_finally_blocks(directory: Path) -> None:
    do = _SLEEP.replace("    time", "    try:\n        time") + "    finally:\n        (directory / 'clean').touch()\n"
    with _start(do, directory) as process:
        wait_until((directory / "began").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert (directory / "clean").exists()
    assert read_outcome(directory) == "ended by SIGTERM"


def test_orphan_cleans_up_and_records_the_failure_of_its_job(directory: Path, farandole_home: Path) -> None:
    queue = Queue(farandole_home)
    queue.submit(JobRecord("tiny-1", "tiny", "local"), directory, ["true"])
    code = (
        "import os, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from farandole.backends.local.queue import Queue\n"
        f"assert Queue(Path({str(farandole_home)!r})).claim('local')\n"
        f"os.environ[{PARENT_VARIABLE!r}] = str(os.getpid())\n"
        f"code = {_IMPORTS + _SLEEP + 'run_job_process(do)'!r}\n"
        f"subprocess.Popen([sys.executable, '-c', code, '--directory', {str(directory)!r}]).wait()\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", code])
    wait_until((directory / "began").exists)
    runner.kill()
    runner.wait()

    def is_recorded() -> bool:
        entry = queue.find("tiny-1")
        return entry is not None and entry.state == "failed"

    wait_until(is_recorded)  # by the orphan: no other process looked
    entry = queue.find("tiny-1")
    assert entry is not None
    assert entry.reason.startswith(f"its runner, process {runner.pid}, was killed")
    assert read_outcome(directory) == "ended by SIGTERM"


def test_job_whose_runner_died_after_its_result_has_succeeded(directory: Path, farandole_home: Path) -> None:
    queue = Queue(farandole_home)
    queue.submit(JobRecord("tiny-1", "tiny", "local"), directory, ["true"])
    claimed = queue.claim("local")
    assert claimed is not None
    (directory / "result.json").write_text(json.dumps({"job": "tiny"}))
    claimed[1].release()
    queue.reconcile()
    entry = queue.find("tiny-1")
    assert entry is not None
    assert (entry.state, entry.reason) == ("succeeded", "completed")
