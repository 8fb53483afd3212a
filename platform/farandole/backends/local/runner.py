"""Process that takes jobs from a pool of the queue and runs them one after the other, until none waits.

Run as `python -m farandole.backends.local.runner --home DIR --pool NAME --wake-lock FD`. It forks first, so that it is
nobody's child. Every process that it starts for a job carries the job's directory in its environment, by which all of
them are found and ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from farandole.backends.local.queue import Queue
from farandole.backends.local.queue_entry import QueueEntry
from farandole.backends.local.spawn import finalize_mlflow_run
from farandole.jobdir.launch_context import LaunchContext, take_launch_context
from farandole.jobdir.layout import LOG
from farandole.jobdir.outcome import append_log, clear_outcome, read_outcome, read_result
from farandole.jobdir.status import JobState
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.process.parent_death import PARENT_VARIABLE
from farandole.process.signals import describe_exit, on_sigterm

_POLL_S = 0.2


def main() -> None:
    """Fork, and serve the pool in the child."""
    arguments = _arguments()
    if os.fork():
        os._exit(0)
    os.close(arguments.wake_lock)  # from here on, whoever adds a job wakes another runner
    Runner(Queue(arguments.home), arguments.pool).run()


class Runner:
    """Runner of a pool.

    Args:
        queue: The queue.
        pool: The pool.
    """

    def __init__(self, queue: Queue, pool: str) -> None:
        self._queue, self._pool = queue, pool
        self._terminated = False

    def run(self) -> None:
        """Run waiting jobs until none waits or all slots are taken."""
        on_sigterm(self._terminate)
        while not self._terminated and (claimed := self._queue.claim(self._pool)):
            entry, lock = claimed
            try:
                self._queue.wake_runner(self._pool)  # another slot may be free
                state, reason = self._run(entry)
                append_log(entry.directory, f"{state}: {reason}")
                self._queue.finish(entry, state, reason)
            finally:
                lock.release()

    def _terminate(self) -> None:
        self._terminated = True

    def _run(self, entry: QueueEntry) -> tuple[JobState, str]:
        """Run one job from start to end; return how it ended, and why."""
        mark = str(entry.directory)
        kill_orphans(mark)  # nothing of an earlier start may interfere
        clear_outcome(entry.directory)
        try:
            context = take_launch_context(entry.directory)
            process = self._start(entry, context)
        except (OSError, ValueError) as error:
            return "failed", f"could not be started: {error}"
        code = self._wait(entry, process)
        kill_orphans(mark)
        cancelled = code != 0 and self._queue.is_cancel_requested(entry.id)
        if code < 0:
            finalize_mlflow_run(entry.directory, context.variables, cancelled=cancelled, job_is_locked=True)
        outcome = read_outcome(entry.directory)
        if code == 0 or read_result(entry.directory) is not None:  # killed after everything was done
            return "succeeded", outcome or "completed"
        if cancelled:
            return "cancelled", "cancelled while it ran"
        if self._terminated:
            return "failed", "its runner received SIGTERM, as at a shutdown of the machine"
        return "failed", outcome or f"its process {describe_exit(code)}"

    def _start(self, entry: QueueEntry, context: LaunchContext) -> subprocess.Popen[bytes]:
        own = {GANG_VARIABLE: str(entry.directory), PARENT_VARIABLE: str(os.getpid())}
        append_log(entry.directory, f"starts on {os.uname().nodename}")
        with (entry.directory / LOG).open("ab") as log:
            return subprocess.Popen(
                entry.command,
                cwd=context.folder,
                env={**context.variables, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self, entry: QueueEntry, process: subprocess.Popen[bytes]) -> int:
        """Wait for a job's process; on request, terminate it, and kill it when its time to end is over."""
        kill_at_s: float | None = None
        while True:
            try:
                return process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if kill_at_s is not None and time.monotonic() > kill_at_s:
                    process.kill()
                elif kill_at_s is None and (self._terminated or self._queue.is_cancel_requested(entry.id)):
                    process.send_signal(signal.SIGTERM)
                    kill_at_s = time.monotonic() + entry.stop_timeout_s


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.backends.local.runner")
    parser.add_argument("--home", required=True, type=Path, help="home whose queue to serve")
    parser.add_argument("--pool", required=True, help="pool to take jobs from")
    parser.add_argument("--wake-lock", required=True, type=int, help="lock to release before the first look")
    return parser.parse_args()


if __name__ == "__main__":
    main()
