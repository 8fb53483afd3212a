"""A job's training as a process of its own, in a home of its own, seen from outside: by its files alone."""

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
from farandole.process.orphans import GANG_VARIABLE
from farandole.spec import Job, save_job

_POLL_S = 0.02
_STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


class ObservedTraining:
    """A training under way.

    Args:
        process: `farandole train`.
        home: Its FARANDOLE_HOME.
        words: The file with its standard error.
        started_s: When it was started, as seconds since 1970.
    """

    def __init__(self, process: subprocess.Popen[str], home: Path, words: Path, started_s: float) -> None:
        self._process, self._home, self._words = process, home, words
        self.started_s = started_s

    def wait_for_event(self, name: str, count: int = 1) -> dict[str, Any] | None:
        """Wait until the job's history has so many events of a name; returns the last, None: the job has ended.

        Its `time_s` are seconds since 1970.
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
        for path in self._home.glob("jobs/*/events.jsonl"):
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
            return [json.loads(line) for line in whole.splitlines()]
        return []

    def goes_on_for(self, seconds: float) -> bool:
        """Wait so long, or until it ends; returns whether it still runs."""
        deadline_s = time.monotonic() + seconds
        while self._process.poll() is None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return True
            time.sleep(min(left_s, _POLL_S))
        return False

    def workers(self) -> dict[int, int]:
        """The processes of its workers: rank to process id."""
        directories = {str(path) for path in self._home.glob("jobs/*")}
        found = {}
        for process in psutil.process_iter():
            try:
                variables = process.environ()
            except (psutil.Error, OSError):
                continue  # it has ended meanwhile, or belongs to somebody else
            worker = "farandole.training.worker" in process.cmdline()
            if worker and variables.get(GANG_VARIABLE) in directories and "HOROVOD_RANK" in variables:
                found[int(variables["HOROVOD_RANK"])] = process.pid
        return found

    def document(self) -> dict[str, Any]:
        """Wait for its end; its result document.

        Raises:
            TrainingFailed: It did not end well.
        """
        out, _ = self._process.communicate()
        if self._process.returncode:
            words = self._words.read_text(encoding="utf-8").strip()
            told = [line for line in words.splitlines() if line.startswith("farandole: ") and "--debug" not in line]
            last = (told or words.splitlines() or ["it said nothing"])[-1].removeprefix("farandole: ")
            raise TrainingError(f"bench: farandole train ended with {self._process.returncode}: {last}", detail=words)
        document: dict[str, Any] = json.loads(out)
        return document

    def end(self) -> None:
        """End it, if it has not ended; its gang goes with it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def observed_training(job: Job, directory: Path) -> Iterator[ObservedTraining]:
    """Start `farandole train` on a job; it ends with the block.

    Args:
        job: The job; its dataset lies ready.
        directory: An empty folder for its home, and for the MLflow store that the home has by default.
    """
    home = directory / "home"
    home.mkdir(parents=True)
    file, words = save_job(job, directory / "job.yaml"), directory / "stderr"
    environment = {name: value for name, value in os.environ.items() if name not in _STORE_VARIABLES}
    # Said openly: a dataset in its default place is looked for in the home of the process that trains.
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
    with words.open("w", encoding="utf-8") as stream:
        started_s = time.time()
        process = subprocess.Popen(
            command,
            env={**environment, "FARANDOLE_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    found = ObservedTraining(process, home, words, started_s)
    try:
        yield found
    finally:
        found.end()
