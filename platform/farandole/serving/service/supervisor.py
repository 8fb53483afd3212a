"""The supervisor: it holds the listening socket, starts the workers, replaces those that die, and ends them in peace.

Workers accept connections from the one socket, so a connection that a dead worker has not accepted yet waits for
another one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

from farandole.errors import FarandoleError, UnavailableError, UserError, explain_os_error
from farandole.events import Event, Message
from farandole.process.atomic import write_atomic, write_json
from farandole.process.parent_death import PARENT_VARIABLE
from farandole.process.retry import Backoff
from farandole.process.signals import Terminated, describe_exit
from farandole.serving.service.connection_keeper import ConnectionKeeper
from farandole.serving.service.connections import board_file
from farandole.serving.service.deployment import DeploymentPlan, describe, is_same
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.settings import DEPLOYMENT, SETTINGS, Deployment, ServiceSettings

_POLL_S = 0.05
_BACKLOG = 2048
_MAX_FAILED_STARTS = 3
_STEADY_S = 60.0
"""A worker that lived for so long does not count as failing again and again."""
_BACKOFF = Backoff(first_s=0.1, longest_s=5.0)
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Address:
    """The address of the service.

    Args:
        host: The address.
        port: The port; 0: the kernel chooses one.
    """

    host: str = "127.0.0.1"
    port: int = 8000


@dataclass
class _Worker:
    """A worker process; `process` is None while its replacement waits."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    keeper: ConnectionKeeper | None = None
    started_s: float = 0.0
    is_ready: bool = False
    failures: int = 0
    start_at_s: float = 0.0


@dataclass(frozen=True)
class _Death:
    """A worker that has died, and whose callers are being answered."""

    number: int
    pid: int
    reason: str
    restarts: int
    keeper: ConnectionKeeper


class Supervisor:
    """The service as a whole.

    Args:
        plan: The models.
        settings: The settings of the workers.
        address: Where to listen.
        workers: The number of worker processes.
        poll_s: Seconds between two looks at the registry; 0: none.
        log: Receives what happens.
    """

    def __init__(
        self,
        plan: DeploymentPlan,
        settings: ServiceSettings,
        address: Address,
        workers: int,
        poll_s: float = 10.0,
        log: JsonLog | None = None,
    ) -> None:
        self._plan, self._settings, self._address, self._poll_s = plan, settings, address, poll_s
        self._log = log or JsonLog()
        self._workers = [_Worker(number) for number in range(workers)]
        self._restarts = 0
        self._deaths: list[_Death] = []
        """Deaths that are not in the log yet."""
        self._ending = threading.Event()

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Raises:
            UserError: A model or the address cannot be used.
            UnavailableError: Workers do not start, or MLflow does not answer and there is no cached bundle.
        """
        deployment = self._plan.resolve(self._on_event)
        listener = listen(self._address)
        directory = Path(tempfile.mkdtemp(prefix="farandole-serve-"))
        try:
            write_atomic(directory / SETTINGS, self._settings.to_json(), mode=0o600)
            write_atomic(directory / DEPLOYMENT, deployment.to_json())
            threading.Thread(target=self._follow, args=(directory, deployment), daemon=True).start()
            self._supervise(directory, listener)
        except (KeyboardInterrupt, Terminated):
            self._log.write("ending")
        finally:
            self._ending.set()
            listener.close()  # the workers hold it until they end: afterwards, connections are refused at once
            try:
                self._end()
                self._log_deaths(list(self._deaths))
            finally:
                shutil.rmtree(directory, ignore_errors=True)
                self._log.write("ended")

    # Workers -----------------------------------------------------------------------------------------------------

    def _supervise(self, directory: Path, listener: socket.socket) -> None:
        is_announced = False
        host, port = listener.getsockname()[:2]
        self._count(directory)
        while True:
            for worker in self._workers:
                self._look_after(worker, directory, listener)
            self._log_deaths([death for death in self._deaths if death.keeper.has_ended])
            if not is_announced and all(worker.is_ready for worker in self._workers):
                is_announced = True
                scheme = "https" if self._settings.tls else "http"
                shown = f"[{host}]" if ":" in host else host
                self._log.write("serving", url=f"{scheme}://{shown}:{port}", workers=len(self._workers))
            time.sleep(_POLL_S)

    def _look_after(self, worker: _Worker, directory: Path, listener: socket.socket) -> None:
        """Start a worker, learn that it is ready, or replace it.

        Raises:
            UnavailableError: It has failed to start several times in a row.
        """
        if worker.process is None:
            if time.monotonic() >= worker.start_at_s:
                self._start(worker, directory, listener)
            return
        code = worker.process.poll()
        if code is None:
            if not worker.is_ready and (directory / f"ready-{worker.process.pid}").exists():
                worker.is_ready = True
                self._log.write("worker_ready", worker=worker.number, worker_pid=worker.process.pid)
            return
        self._bury(worker, code, directory)

    def _start(self, worker: _Worker, directory: Path, listener: socket.socket) -> None:
        descriptor = listener.fileno()
        variables = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            "PROMETHEUS_MULTIPROC_DIR": str(directory),
            "OMP_NUM_THREADS": "1",
        }
        path = board_file(directory, worker.number)
        path.unlink(missing_ok=True)
        worker.keeper = ConnectionKeeper(path)
        channel = worker.keeper.worker_end.fileno()
        command = [sys.executable, "-m", "farandole.serving.service.worker"]
        worker.process = subprocess.Popen(
            [*command, str(directory), str(descriptor), str(channel), str(worker.number)],
            pass_fds=(descriptor, channel),
            env=variables,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C reaches the supervisor, which ends the workers
        )
        worker.keeper.start()
        worker.started_s, worker.is_ready = time.monotonic(), False

    def _bury(self, worker: _Worker, code: int, directory: Path) -> None:
        assert worker.process is not None
        pid, lived_s = worker.process.pid, time.monotonic() - worker.started_s
        for path in directory.glob(f"gauge_live*_{pid}.db"):  # its queue is gone; its counts stay
            path.unlink(missing_ok=True)
        (directory / f"ready-{pid}").unlink(missing_ok=True)
        is_steady = worker.is_ready and lived_s >= _STEADY_S
        worker.failures = 1 if is_steady else worker.failures + 1
        if not worker.is_ready and worker.failures >= _MAX_FAILED_STARTS:
            raise UnavailableError(
                f"worker {worker.number} {describe_exit(code)} before it could answer, {worker.failures} times in a"
                " row; the lines above have the reason"
            )
        self._restarts += 1
        assert worker.keeper is not None
        self._deaths.append(_Death(worker.number, pid, describe_exit(code), self._restarts, worker.keeper))
        worker.process, worker.keeper, worker.is_ready = None, None, False
        worker.start_at_s = time.monotonic() + _BACKOFF.pause_s(worker.failures)
        self._count(directory)

    def _log_deaths(self, deaths: list[_Death]) -> None:
        """Log deaths with the number of requests that were answered for the worker."""
        for death in deaths:
            self._deaths.remove(death)
            self._log.write(
                "worker_died",
                level="error",
                worker=death.number,
                worker_pid=death.pid,
                reason=death.reason,
                restarts=death.restarts,
                answered_503=death.keeper.finish(),
            )

    def _count(self, directory: Path) -> None:
        """Write the counts that only the supervisor has, for the metrics."""
        running = sum(worker.process is not None for worker in self._workers)
        write_json(directory / "supervisor.json", {"workers": running, "restarts": self._restarts})

    def _end(self) -> None:
        """End all workers: each answers what it has accepted; a second signal ends them at once."""
        processes = [worker.process for worker in self._workers if worker.process is not None]
        limits = self._settings.limits
        patience_s = self._settings.drain_s + self._settings.batches.deadline_s + limits.body_s + _PATIENCE_S
        deadline_s = time.monotonic() + patience_s
        try:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(max(0.0, deadline_s - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt, Terminated):
            self._log.write("workers_killed", level="warning")
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    # Versions ----------------------------------------------------------------------------------------------------

    def _follow(self, directory: Path, current: Deployment) -> None:
        """Ask again and again which versions the models stand for, and write changes for the workers."""
        is_failing = False
        while self._poll_s > 0 and not self._ending.wait(self._poll_s):
            problems: list[str] = []
            found = self._ask(problems)
            if problems and not is_failing:
                self._log.write("poll_failed", level="warning", error=problems[0])
            elif is_failing and not problems:
                self._log.write("poll_recovered")
            is_failing = bool(problems)
            if found is not None and not is_same(found, current):
                current = replace(found, generation=current.generation + 1)
                write_atomic(directory / DEPLOYMENT, current.to_json())
                self._log.write("versions_changed", versions=describe(current))

    def _ask(self, problems: list[str]) -> Deployment | None:
        """Return the versions that the models stand for now, or that they stood for when MLflow answered last.

        Args:
            problems: Receives what went wrong.
        """
        try:
            return self._plan.resolve(lambda event: problems.append(event.text) if _is_warning(event) else None)
        except (FarandoleError, OSError) as error:
            problems.append(str(error))
            return None

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Message):
            self._log.write("message", level=event.level, text=event.text)


def _is_warning(event: Event) -> TypeGuard[Message]:
    return isinstance(event, Message) and event.level == "warning"


def listen(address: Address) -> socket.socket:
    """Return a listening socket.

    Raises:
        UserError: The address is taken, or not this machine's.
    """
    where = f"{address.host}:{address.port}"
    try:
        (family, *_, found) = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(found[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno is not None and error.errno > 0:  # Python's text has the address again, as a tuple
            error.strerror = os.strerror(error.errno)
        raise UserError(f"{explain_os_error(error, where)}; choose another --host or --port") from error
