"""One attempt: start of all workers through the launcher, their messages, their health, and their end."""

from __future__ import annotations

import os
import queue
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from farandole.events import Event, EventHandler, Message, StageStarted, format_count
from farandole.jobdir.layout import ENVIRONMENT, REMOTE_HOSTS, SPEC, attempt_logs
from farandole.launch.attempt import PEER_LOST, Attempt
from farandole.launch.environment import private_file, private_variables_file
from farandole.launch.failure import Failure, diagnose
from farandole.launch.health import HealthMonitor, HealthProblem
from farandole.launch.hosts import is_local
from farandole.launch.launcher import (
    HOROVOD_LAUNCHER,
    KILL_TIMEOUT_S,
    Launcher,
    RankLogs,
    launcher_arguments,
    launcher_variables,
)
from farandole.launch.ssh.staging import Staging
from farandole.process.messages import (
    Alive,
    Failed,
    MessageError,
    MlflowRunCreated,
    Started,
    WorkerMessage,
    decode_message,
    parse_line,
)
from farandole.spec import Job

_WORKER_LINE = re.compile(r"^\[(?P<rank>\d+)\]<(?P<stream>stdout|stderr)>:(?P<text>.*)$", re.DOTALL)
_CHECK_EVERY_S = 0.25
_VICTIM_TIMEOUT_S = 5.0
"""How long the other workers have after a failure to report that they are victims. They notice within 0.1 s."""
_DUMP_S = 1.0
"""How long workers have to write their stacks to their logs."""


@dataclass(frozen=True)
class GangOptions:
    """Options of a gang: the job, and the functions that are called while it runs.

    Args:
        job: The job.
        directory: The job's directory.
        register: Whether rank zero registers a model version.
        on_event: Receives the events of rank zero.
        on_change: Called after everything that may have changed the attempt.
        should_stop: Returns whether the gang should save its state and stop although nothing is wrong; called
            periodically.
        staging: Has prepared other hosts; None: there are none.
        launcher: The program that starts the workers. Default: Horovod's launcher.
    """

    job: Job
    directory: Path
    register: bool
    on_event: EventHandler
    on_change: Callable[[Attempt], None] = lambda attempt: None
    should_stop: Callable[[Attempt], bool] = lambda attempt: False
    staging: Staging | None = None
    launcher: Sequence[str] = HOROVOD_LAUNCHER


def run_gang(options: GangOptions, attempt: Attempt) -> Failure | None:
    """Start the workers, and return when all of them have ended, with all of their child processes.

    An interruption (Ctrl-C, SIGTERM) asks the workers to save their state and waits for that up to
    `resources.stop_timeout_s`; a second one kills them at once. Exceptions of the callbacks kill them as well.

    Returns:
        Why the attempt failed; None: it is complete, or was stopped by `should_stop`.
    """
    job, directory = options.job, options.directory
    logs = attempt_logs(directory, attempt.number)
    logs.mkdir(parents=True, exist_ok=True)
    options.on_event(StageStarted("train", f"starting {format_count(attempt.workers, 'worker')}"))
    staging = options.staging
    remote = None if staging is None else staging.describe_remote_hosts(attempt, register=options.register)
    (directory / REMOTE_HOSTS).unlink(missing_ok=True)  # secrets that a killed supervisor has left
    num_threads = job.resources.threads(len(os.sched_getaffinity(0)), max(host.slots for host in attempt.hosts))
    with (
        private_variables_file(directory / ENVIRONMENT, num_threads) as environment,
        nullcontext() if remote is None else private_file(directory / REMOTE_HOSTS, remote) as remote_file,
    ):
        command = [*options.launcher, *launcher_arguments(job, attempt.hosts, remote_file)]
        command += _worker_command(options, environment)
        variables = launcher_variables(job, directory, attempt.workers)
        with Launcher(command, variables, str(directory)) as launcher, RankLogs(logs) as files:
            gang = _Gang(options, attempt, launcher, files, environment)
            try:
                gang.run()
            except BaseException as error:
                if not isinstance(error, Exception):  # Ctrl-C, SIGTERM
                    options.on_event(Message(f"stopping: {_next_save(job)}; press Ctrl-C again to stop at once"))
                    gang.stop()
                    gang.run()
                raise
    has_stopped = gang.is_stopping and gang.problem is None and not _has_failed_to_stop(attempt)
    if attempt.is_complete or has_stopped:
        return None
    return diagnose(attempt, logs, gang.problem, launcher.exit_code)


def _next_save(job: Job) -> str:
    """Return what a stop waits for: a script of the user may never save."""
    if job.train.script is None:
        return "the training saves a checkpoint"
    timeout_s = job.resources.stop_timeout_s
    return f"waiting up to {timeout_s:g} s for the script to save (farandole.Checkpoint.save)"


def _worker_command(options: GangOptions, environment: Path) -> list[str]:
    directory = options.directory
    command = [sys.executable, "-m", "farandole.training.worker", "--job", str(directory / SPEC)]
    command += ["--directory", str(directory), "--environment", str(environment)]
    return [*command, "--register"] if options.register else command


def _has_failed_to_stop(attempt: Attempt) -> bool:
    """Return whether a worker that was asked to stop could not save its state: because of a full disk, say."""
    return any(report.kind != PEER_LOST for report in attempt.failures)


def _parse(line: str) -> tuple[str, WorkerMessage | Event | None]:
    """Split a line into plain output and a message; a malformed message is plain output."""
    output, data = parse_line(line)
    if data is None:
        return line, None
    try:
        return output, decode_message(data)
    except MessageError:
        return line, None


class _Gang:
    """The running workers as the supervisor sees them."""

    def __init__(
        self, options: GangOptions, attempt: Attempt, launcher: Launcher, files: RankLogs, environment: Path
    ) -> None:
        self._options, self._attempt, self._launcher, self._files = options, attempt, launcher, files
        self._environment = environment
        self._health = HealthMonitor(options.job.resources, time.monotonic())
        self._is_local = {rank: is_local(attempt.host_of(rank) or "") for rank in range(attempt.workers)}
        self._kill_at_s: float | None = None
        self._give_up_at_s: float | None = None
        self.is_stopping = False
        self.problem: HealthProblem | None = None

    def run(self) -> None:
        """Handle messages and check the gang until the launcher's output ends."""
        checked_s = time.monotonic()
        while True:
            with suppress(queue.Empty):
                line = self._launcher.lines.get(timeout=_CHECK_EVERY_S)
                if line is None:
                    return
                self._handle_line(line)
            now_s = time.monotonic()
            if now_s - checked_s >= _CHECK_EVERY_S:
                checked_s = now_s
                if not self._check(now_s):
                    return

    def stop(self) -> None:
        """Ask all workers to save their state and exit; those that have not exited in time are killed."""
        self.is_stopping = True
        self._launcher.send_command("stop")
        # After the last step there is no state to save.
        is_trained, timeout_s = self._attempt.is_trained, self._options.job.resources.stop_timeout_s
        self._kill_within(_VICTIM_TIMEOUT_S if is_trained else timeout_s)

    def _kill_within(self, seconds: float) -> None:
        due_s = time.monotonic() + seconds
        self._kill_at_s = due_s if self._kill_at_s is None else min(self._kill_at_s, due_s)

    def _check(self, now_s: float) -> bool:
        """Check the whole gang, and return whether to wait for more messages."""
        self._options.on_change(self._attempt)
        if self._give_up_at_s is not None:
            return now_s < self._give_up_at_s
        if self._attempt.failed_s is not None:
            self._kill_within(0.0 if self._attempt.has_lost_host else _VICTIM_TIMEOUT_S)
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._launcher.send_command("kill")
            self._give_up_at_s = now_s + KILL_TIMEOUT_S
            return True
        if self._attempt.failed_s is not None:
            return True
        if not self.is_stopping and self._options.should_stop(self._attempt):
            self.stop()
        elif not self.is_stopping:
            self._handle_problem(self._health.check(self._attempt, now_s), now_s)
        return True

    def _handle_problem(self, problem: HealthProblem | None, now_s: float) -> None:
        if problem is None:
            return
        self.problem, self._attempt.failed_s = problem, now_s
        if problem.kind == "frozen":
            self._launcher.send_command(f"kill {problem.rank}")
            self._kill_within(_VICTIM_TIMEOUT_S)  # the others lose their peer, and report it
        else:
            self._launcher.send_command("dump")
            self._kill_within(_DUMP_S)

    def _handle_line(self, line: str) -> None:
        """Handle one line: a message, other output of a worker, or output of the launcher."""
        match = _WORKER_LINE.match(line)
        rank = None if match is None else int(match["rank"])
        text = line if match is None else match["text"]
        # Standard error is never a message.
        output, message = (text, None) if match is not None and match["stream"] == "stderr" else _parse(text)
        if output.strip():
            self._files.write(rank, output if output.endswith("\n") else output + "\n")
            if rank is None:
                self._attempt.launcher_output.append(output.rstrip())
            elif rank == 0 and self._options.job.train.script is not None:
                self._options.on_event(Message(output.rstrip()))
        if message is not None:
            self._handle_message(message)

    def _handle_message(self, message: WorkerMessage | Event) -> None:
        attempt = self._attempt
        attempt.apply(message, time.monotonic())
        match message:
            case Failed() if message.kind != PEER_LOST:
                self._files.write(message.rank, f"{message.message}\n{message.detail or ''}\n")
            case Started() | Alive() if self._is_local.get(message.rank):
                attempt.oom.observe(message.rank, message.pid)
            case MlflowRunCreated():
                self._launcher.send_command(f"mlflow_run {message.id}")
        if isinstance(message, Event):
            self._options.on_event(message)
        if attempt.is_connected:  # every worker has read the file, so it need not survive this process
            self._environment.unlink(missing_ok=True)
        self._options.on_change(attempt)
