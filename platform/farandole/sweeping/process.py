"""The process of one trial: `python -m farandole.sweeping.process --job JOB.json --directory DIR --sweep DIR`.

A process, not a thread: it is ended by SIGTERM, as a training is ended, when the trial is pruned or the sweep goes.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from farandole import pipeline
from farandole.errors import FarandoleError
from farandole.events import Event
from farandole.process.messages import parse_line, send_message
from farandole.process.parent_death import signal_on_parent_death
from farandole.spec import Job, parse_job
from farandole.tracking.run_link import open_run_link
from farandole.tracking.store import resolve_store

_END_S = 20.0
"""Seconds that a trial gets to end its gang and to close its MLflow run."""

Heard = tuple[int, dict[str, Any] | None]
"""A trial's number and what it said; None: it has ended."""


class TrialProcess:
    """A trial that runs.

    Args:
        number: The trial's number.
        job: The job with the trial's values.
        directory: The directory of the trial's job.
        sweep: The sweep's directory.
        heard: Gets what the trial says, from a thread.
    """

    def __init__(self, number: int, job: Job, directory: Path, sweep: Path, heard: queue.Queue[Heard]) -> None:
        directory.mkdir(parents=True)
        file = directory / "job.json"
        file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
        command = [sys.executable, "-m", "farandole.sweeping.process", "--job", str(file)]
        command += ["--directory", str(directory), "--sweep", str(sweep)]
        self._log = (directory / "trial.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the sweep, which ends its trials one way only
        )
        self._number, self._heard = number, heard
        threading.Thread(target=self._listen, name=f"trial-{number}", daemon=True).start()

    def end(self) -> None:
        """Ask it to end; `heard` tells when it has."""
        self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End it, now and for certain."""
        if self._process.poll() is None:
            self.end()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            _, data = parse_line(line)
            if data is not None:
                self._heard.put((self._number, data))
        self._process.wait()
        self._heard.put((self._number, None))


class _Ended(BaseException):
    """SIGTERM, as an exception: so that every `finally` on the way out ends what it started."""


def _end(signal_number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Ended


def main() -> None:
    """Train one trial, and say how it went."""
    signal.signal(signal.SIGTERM, _end)
    signal_on_parent_death(signal.SIGTERM)
    arguments = _arguments()
    directory = Path(arguments.directory)
    job = parse_job(json.loads(Path(arguments.job).read_text(encoding="utf-8")), origin=arguments.job)
    try:
        open_run_link(directory, resolve_store(job.tracking).shown, arguments.sweep)
        checked = pipeline.check(job, ["train"])
        prepared = pipeline.load_prepared(checked, warn_if_stale=False)
        trained = pipeline.train(checked, prepared, _say, directory=directory)
        send_message({"event": "trained", "metrics": trained.training.metrics["validation"]})
    except FarandoleError as error:
        send_message({"event": "failed", "reason": str(error)})
        sys.exit(error.exit_code)
    except _Ended:
        os._exit(128 + signal.SIGTERM)


def _say(event: Event) -> None:
    send_message(event)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.sweeping.process")
    parser.add_argument("--job", required=True, help="the serialized spec")
    parser.add_argument("--directory", required=True, help="where the trial's job keeps checkpoints and logs")
    parser.add_argument("--sweep", required=True, help="the sweep's directory")
    return parser.parse_args()


if __name__ == "__main__":
    main()
