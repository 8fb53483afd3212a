"""The process that takes jobs from a lane of the queue and runs them, one after the other, until none waits.

`python -m farandole.backends.local.runner --home DIR --lane NAME --waking FD`. It forks first, and so belongs to
nobody. What it starts for a job carries the job's directory in its environment, by which all of it is found and ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from farandole.backends.local.mlflow_finalizer import finalize_mlflow_run
from farandole.backends.local.queue import Queue, QueueEntry
from farandole.backends.local.spawn import LaunchContext, take_launch_context
from farandole.jobdir.layout import LOG
from farandole.jobdir.outcome import append_log, clear_outcome, read_outcome, read_result
from farandole.jobdir.status import JobState
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.process.parent_death import PARENT_VARIABLE
from farandole.process.signals import describe_exit, on_sigterm

_LOOK_S = 0.2


def main() -> None:
    """Fork, and let the child serve the lane."""
    arguments = _arguments()
    if os.fork():
        os._exit(0)
    os.close(arguments.waking)  # from here on, whoever adds a job wakes another runner
    Runner(Queue(arguments.home), arguments.lane).run()


class Runner:
    """Serves a lane.

    Args:
        queue: The queue.
        lane: The lane.
    """

    def __init__(self, queue: Queue, lane: str) -> None:
        self._queue, self._lane = queue, lane
        self._terminated = False

    def run(self) -> None:
        """Run what waits, until nothing does or all slots are taken."""
        on_sigterm(self._terminate)
        while not self._terminated and (claimed := self._queue.claim(self._lane)):
            entry, hold = claimed
            try:
                self._queue.wake(self._lane)  # there may be another slot
                state, reason = self._run(entry)
                append_log(entry.directory, f"{state}: {reason}")
                self._queue.end(entry, state, reason)
            finally:
                hold.release()

    def _terminate(self) -> None:
        self._terminated = True

    def _run(self, entry: QueueEntry) -> tuple[JobState, str]:
        """Be there for one job from start to end; returns how it ended, and why."""
        mark = str(entry.directory)
        kill_orphans(mark)  # nothing of an earlier start may be in the way
        clear_outcome(entry.directory)
        try:
            start = take_launch_context(entry.directory)
            process = self._start(entry, start)
        except (OSError, ValueError) as error:
            return "failed", f"could not be started: {error}"
        code = self._attend(entry, process)
        kill_orphans(mark)
        cancelled = code != 0 and self._queue.is_cancel_requested(entry.id)
        if code < 0:
            finalize_mlflow_run(entry.directory, start.variables, cancelled=cancelled, held=True)
        told = read_outcome(entry.directory)
        if code == 0 or read_result(entry.directory) is not None:  # killed when all was done
            return "succeeded", told or "reached its end"
        if cancelled:
            return "cancelled", "cancelled while it ran"
        if self._terminated:
            return "failed", "its runner was asked to end by SIGTERM, as when the machine is shut down"
        return "failed", told or f"its process {describe_exit(code)}"

    def _start(self, entry: QueueEntry, start: LaunchContext) -> subprocess.Popen[bytes]:
        own = {GANG_VARIABLE: str(entry.directory), PARENT_VARIABLE: str(os.getpid())}
        append_log(entry.directory, f"starts on {os.uname().nodename}")
        with (entry.directory / LOG).open("ab") as log:
            return subprocess.Popen(
                entry.command,
                cwd=start.folder,
                env={**start.variables, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _attend(self, entry: QueueEntry, process: subprocess.Popen[bytes]) -> int:
        """Wait for a job's process, and end it when that is asked for: first with patience, then without."""
        kill_at_s: float | None = None
        while True:
            try:
                return process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                if kill_at_s is not None and time.monotonic() > kill_at_s:
                    process.kill()
                elif kill_at_s is None and (self._terminated or self._queue.is_cancel_requested(entry.id)):
                    process.send_signal(signal.SIGTERM)
                    kill_at_s = time.monotonic() + entry.patience_s


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.backends.local.runner")
    parser.add_argument("--home", required=True, type=Path, help="whose queue to serve")
    parser.add_argument("--lane", required=True, help="which lane of it")
    parser.add_argument("--waking", required=True, type=int, help="the lock to give back before the first look")
    return parser.parse_args()


if __name__ == "__main__":
    main()
