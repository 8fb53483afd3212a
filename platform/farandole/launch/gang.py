"""One attempt: starts all workers by Horovod's own launcher, hears and watches them, and ends them."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from farandole.events import Event, EventHandler, Message, StageStarted, format_count
from farandole.jobdir.layout import ENVIRONMENT, REMOTE_HOSTS, SPEC, attempt_logs, launcher_log, worker_log
from farandole.launch.attempt import Attempt
from farandole.launch.environment import private_variables_file, public_variables
from farandole.launch.failure import Failure, diagnose
from farandole.launch.health import HealthMonitor, HealthProblem
from farandole.launch.hosts import is_local
from farandole.launch.ssh.staging import Staging, remote_hosts_file
from farandole.process.messages import WORKERS_VARIABLE, MessageError, WorkerMessage, decode_message, parse_line
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.process.parent_death import PARENT_VARIABLE
from farandole.spec import Job, horovod_variables

_LINE = re.compile(r"^\[(?P<rank>\d+)\]<(?P<stream>stdout|stderr)>:(?P<text>.*)$", re.DOTALL)
_LOOK_S = 0.25
_LINES_AHEAD = 10_000
_LAST_WORDS_S = 5.0
"""How long after a failure the other workers have to say that they are victims. They know in a tenth of a second."""
_KILLED_S = 5.0
"""How long a gang that was killed may take to be gone, before Horovod's launcher is killed too."""
_DUMP_S = 1.0
"""How long workers have to write down where they stand."""


@dataclass(frozen=True)
class GangOptions:
    """What a gang is started for.

    Args:
        job: The job.
        directory: Where the job keeps its spec, checkpoints and logs.
        register: Whether the chief adds a model version.
        on_event: Is told what the chief says.
        heard: Is called after whatever may have changed the attempt.
        wants_stop: Whether the gang shall save its state and end, though nothing is wrong; asked now and then.
        shipping: Has made other hosts ready; None: there are none.
    """

    job: Job
    directory: Path
    register: bool
    on_event: EventHandler
    heard: Callable[[Attempt], None] = lambda attempt: None
    wants_stop: Callable[[Attempt], bool] = lambda attempt: False
    shipping: Staging | None = None


def run_gang(orders: GangOptions, attempt: Attempt) -> Failure | None:
    """Start the workers, and return when all have ended, with all that they started.

    An interruption (Ctrl-C, SIGTERM) asks the workers to save their state and waits for that for
    `resources.stop_timeout_s`; a second one ends them at once.

    Returns:
        Why the attempt failed; None: it is complete, or stopped because `wants_stop` said so.
    """
    logs = attempt_logs(orders.directory, attempt.number)
    logs.mkdir(parents=True, exist_ok=True)
    orders.on_event(StageStarted("train", f"starting {format_count(attempt.workers, 'worker')}"))
    elsewhere = None if orders.shipping is None else orders.shipping.away(attempt, register=orders.register)
    with (
        private_variables_file(orders.directory / ENVIRONMENT, _threads(orders.job, attempt)) as environment,
        remote_hosts_file(orders.directory / REMOTE_HOSTS, elsewhere) as away,
    ):
        command = _command(orders, attempt, environment, away)
        with _Launcher(command, _variables(orders, attempt), str(orders.directory)) as launcher, _Logs(logs) as files:
            gang = _Gang(orders, attempt, launcher, files, environment)
            try:
                gang.listen()
            except BaseException as error:
                if not isinstance(error, Exception):  # Ctrl-C, SIGTERM
                    orders.on_event(
                        Message("stops, and saves the state of the training; once more, and it ends at once")
                    )
                    gang.ask_to_stop()
                    gang.listen()
                raise
    if attempt.complete or (gang.stop_asked and gang.trouble is None and not _said_wrong(attempt)):
        return None
    return diagnose(attempt, logs, gang.trouble, launcher.code)


def _said_wrong(attempt: Attempt) -> bool:
    """Whether a worker that was asked to stop says that it could not: a full disk, say."""
    return any(said["kind"] != "PeerLost" for said in attempt.failures)


class _Launcher:
    """Horovod's launcher as a process that is never left behind, its lines, and its orders.

    Args:
        command: The launcher's command.
        variables: Its whole environment.
        mark: What all processes of the gang carry in their environment.
    """

    def __init__(self, command: list[str], variables: dict[str, str], mark: str) -> None:
        self._command, self._variables, self._mark = command, variables, mark
        self.code = 0
        self.lines: queue.Queue[str | None] = queue.Queue(_LINES_AHEAD)
        """What is said; None: nothing more will be."""

    def __enter__(self) -> _Launcher:
        kill_orphans(self._mark)  # what an earlier supervisor left that was killed together with its launcher
        self._process = subprocess.Popen(
            self._command,
            env=self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C in a terminal is ours alone
        )
        threading.Thread(target=self._read, name="launcher", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """However the block ends: nothing is left."""
        try:
            if self._process.poll() is None:
                self.order("kill")
                self._wait(_KILLED_S)
        finally:
            self._process.kill()
            self.code = self._process.wait()
            kill_orphans(self._mark)
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # an order that it did not live to read
                self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.lines.put(line)
        self.lines.put(None)

    def _wait(self, seconds: float) -> None:
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return

    def order(self, text: str) -> None:
        """Give an order; one that has ended needs none."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return


class _Gang:
    """The workers as the supervisor sees them."""

    def __init__(
        self, orders: GangOptions, attempt: Attempt, launcher: _Launcher, files: _Logs, environment: Path
    ) -> None:
        self._orders, self._attempt, self._launcher, self._files = orders, attempt, launcher, files
        self._environment = environment
        self._vigil = HealthMonitor(orders.job.resources, time.monotonic())
        self._local = {rank: is_local(attempt.host_of(rank) or "") for rank in range(attempt.workers)}
        self._kill_at_s: float | None = None
        self._gone_at_s: float | None = None
        self.stop_asked = False
        self.trouble: HealthProblem | None = None

    def listen(self) -> None:
        """Hear and on_event until the launcher has nothing more to say."""
        looked_s = time.monotonic()
        while True:
            with suppress(queue.Empty):
                line = self._launcher.lines.get(timeout=_LOOK_S)
                if line is None:
                    return
                self._hear(line)
            now_s = time.monotonic()
            if now_s - looked_s >= _LOOK_S:
                looked_s = now_s
                if not self._go_on(now_s):
                    return

    def ask_to_stop(self) -> None:
        """Ask all workers to save their state and end; who has not ended in time is killed."""
        self.stop_asked = True
        self._launcher.order("stop")
        # After the last step there is nothing to save.
        self._kill_within(_LAST_WORDS_S if self._attempt.trained else self._orders.job.resources.stop_timeout_s)

    def _kill_within(self, seconds: float) -> None:
        due_s = time.monotonic() + seconds
        self._kill_at_s = due_s if self._kill_at_s is None else min(self._kill_at_s, due_s)

    def _go_on(self, now_s: float) -> bool:
        """Look at the whole gang. Returns whether there is more to wait for."""
        self._orders.heard(self._attempt)
        if self._gone_at_s is not None:
            return now_s < self._gone_at_s
        if self._attempt.failed_s is not None:
            self._kill_within(0.0 if self._attempt.lost else _LAST_WORDS_S)
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._launcher.order("kill")
            self._gone_at_s = now_s + _KILLED_S
            return True
        if self._attempt.failed_s is not None:
            return True
        if not self.stop_asked and self._orders.wants_stop(self._attempt):
            self.ask_to_stop()
        elif not self.stop_asked:
            self._act_on(self._vigil.look(self._attempt, now_s), now_s)
        return True

    def _act_on(self, trouble: HealthProblem | None, now_s: float) -> None:
        if trouble is None:
            return
        self.trouble, self._attempt.failed_s = trouble, now_s
        if trouble.kind == "frozen":
            self._launcher.order(f"kill {trouble.rank}")
            self._kill_within(_LAST_WORDS_S)  # the others lose their peer, and say so
        else:
            self._launcher.order("dump")
            self._kill_within(_DUMP_S)

    def _hear(self, line: str) -> None:
        """Sort one line: a message, other output of a worker, or a word of the launcher."""
        match = _LINE.match(line)
        if match is None:
            output, data = parse_line(line)
            if output:
                self._files.write(None, output)
                self._attempt.words.append(output.rstrip())
        else:
            output, data = parse_line(match["text"]) if match["stream"] == "stdout" else (match["text"], None)
            if output.strip():
                self._files.write(int(match["rank"]), output if output.endswith("\n") else output + "\n")
        if data is None:
            return
        try:
            message = decode_message(data)
        except MessageError:
            self._files.write(None if match is None else int(match["rank"]), line)
        else:
            self._take_in(data, message)

    def _take_in(self, data: dict[str, Any], message: WorkerMessage | Event) -> None:
        attempt = self._attempt
        attempt.hear(data, time.monotonic())
        if isinstance(message, Event):
            self._orders.on_event(message)
        if data["event"] == "failed" and data["kind"] != "PeerLost":
            self._files.write(data["rank"], f"{data['message']}\n{data.get('detail') or ''}\n")
        elif data["event"] in ("started", "alive") and self._local.get(data["rank"]):
            attempt.oom.observe(data["rank"], attempt.signs[data["rank"]].pid)
        elif data["event"] == "mlflow_run":
            self._launcher.order(f"mlflow_run {data['id']}")
        if attempt.met:  # every worker has read it; should this process be killed, it does not lie about
            self._environment.unlink(missing_ok=True)
        self._orders.heard(attempt)


def _command(orders: GangOptions, attempt: Attempt, environment: Path, away: Path | None) -> list[str]:
    resources, directory = orders.job.resources, orders.directory
    launcher = [sys.executable, "-m", "farandole.launch.horovodrun", "--workers", str(attempt.workers)]
    launcher += ["--hosts", ",".join(map(str, attempt.hosts))]
    launcher += ["--start-timeout", str(round(resources.meet_timeout_s))]
    launcher += ["--stop-timeout", str(resources.stop_timeout_s)]
    launcher += [] if away is None else ["--away", str(away)]
    worker = [sys.executable, "-m", "farandole.training.worker", "--job", str(directory / SPEC)]
    worker += ["--directory", str(directory), "--environment", str(environment)]
    worker += ["--register"] if orders.register else []
    return [*launcher, *worker]


def _variables(orders: GangOptions, attempt: Attempt) -> dict[str, str]:
    """The environment of Horovod's launcher."""
    variables = public_variables()
    # Horovod's own 30 s are too few for a busy machine, and end in SIGABRT; ours tell who is missing.
    variables.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(round(orders.job.resources.meet_timeout_s) + 30))
    variables |= horovod_variables(orders.job.train.horovod, timeline=orders.job.train.profile)
    variables[WORKERS_VARIABLE] = str(attempt.workers)
    variables[PARENT_VARIABLE] = str(os.getpid())
    variables[GANG_VARIABLE] = str(orders.directory)
    return variables


def _threads(job: Job, attempt: Attempt) -> int:
    most = max(host.slots for host in attempt.hosts)
    return job.resources.threads(len(os.sched_getaffinity(0)), most)


class _Logs:
    """One file for each rank, and one for the launcher."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, IO[str]] = {}

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, rank: int | None, text: str) -> None:
        """Append text to a worker's log; None: to the launcher's."""
        path = launcher_log(self._directory) if rank is None else worker_log(self._directory, rank)
        if path not in self._files:
            self._files[path] = path.open("a", encoding="utf-8", buffering=1)
        self._files[path].write(text)
