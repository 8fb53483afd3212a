"""Training in a separate process with a separate home, observed from outside by its files alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from farandole.errors import TrainingError
from farandole.jobdir.status import read_history
from farandole.process.orphans import GANG_VARIABLE
from farandole.spec import Job, save_job

_POLL_S = 0.02
_STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


class ObservedTraining:
    """Running training.

    Args:
        process: `farandole train`.
        home: Its FARANDOLE_HOME.
        stderr: The file with its standard error.
        started_s: When it was started, in seconds since 1970.
    """

    def __init__(self, process: subprocess.Popen[str], home: Path, stderr: Path, started_s: float) -> None:
        self._process, self._home, self._stderr = process, home, stderr
        self.started_s = started_s

    def wait_for_event(self, name: str, count: int = 1) -> dict[str, Any] | None:
        """Wait until the job's history has `count` events of a name.

        Returns:
            The last of them, with `time_s` in seconds since 1970; None: the job ended before.
        """
        while True:
            running = self._process.poll() is None
            found = [event for event in self._events() if event["event"] == name]
            if len(found) >= count:
                event = found[count - 1]
                return {**event, "time_s": datetime.fromisoformat(event["time"]).timestamp()}
            if not running:
                return None
            time.sleep(_POLL_S)

    def _events(self) -> list[dict[str, Any]]:
        return [event for directory in self._home.glob("jobs/*") for event in read_history(directory)]

    def wait_while_running(self, seconds: float) -> bool:
        """Wait for some seconds, or until it ends; return whether it is still running."""
        deadline_s = time.monotonic() + seconds
        while self._process.poll() is None:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return True
            time.sleep(min(remaining_s, _POLL_S))
        return False

    def workers(self) -> dict[int, int]:
        """Return the process ids of its workers by rank."""
        directories = {str(path) for path in self._home.glob("jobs/*")}
        found = {}
        for process in psutil.process_iter():
            try:
                variables = process.environ()
            except (psutil.Error, OSError):
                continue  # the process has ended, or belongs to another user
            worker = "farandole.training.worker" in process.cmdline()
            if worker and variables.get(GANG_VARIABLE) in directories and "HOROVOD_RANK" in variables:
                found[int(variables["HOROVOD_RANK"])] = process.pid
        return found

    def document(self) -> dict[str, Any]:
        """Wait for its end, and return its result document.

        Raises:
            TrainingError: It failed.
        """
        out, _ = self._process.communicate()
        if self._process.returncode:
            stderr = self._stderr.read_text(encoding="utf-8").strip()
            errors = [line for line in stderr.splitlines() if line.startswith("farandole: ") and "--debug" not in line]
            last = (errors or stderr.splitlines() or ["no output"])[-1].removeprefix("farandole: ")
            raise TrainingError(f"farandole train ended with {self._process.returncode}: {last}", detail=stderr)
        document: dict[str, Any] = json.loads(out)
        return document

    def end(self) -> None:
        """Terminate it, with its gang, if it has not ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def observed_training(job: Job, directory: Path) -> Iterator[ObservedTraining]:
    """Run `farandole train` on a job until the block ends.

    Args:
        job: The job; its dataset must be prepared.
        directory: An empty directory for its home, which also holds the default MLflow store.
    """
    home = directory / "home"
    home.mkdir(parents=True)
    file, stderr = save_job(job, directory / "job.yaml"), directory / "stderr"
    environment = {name: value for name, value in os.environ.items() if name not in _STORE_VARIABLES}
    # Explicit, since the default location of a dataset depends on the home of the process.
    command = [
        sys.executable,
        "-m",
        "farandole",
        "train",
        str(file),
        "--set",
        f"data.output={job.data.output}",
        "--json",
    ]
    with stderr.open("w", encoding="utf-8") as stream:
        started_s = time.time()
        process = subprocess.Popen(
            command,
            env={**environment, "FARANDOLE_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    found = ObservedTraining(process, home, stderr, started_s)
    try:
        yield found
    finally:
        found.end()
