"""Worker processes, in the process of Horovod's launcher or in a host's agent: start, output, signals, exit.

Horovod's launcher computes the variables and the slot of each worker, and calls `WorkerProcesses.execute` in a thread
for each. Horovod's own way to start them goes through one more interpreter per worker, which costs half a second of
processor time, hides the signal that ended a worker, and waits forever on a pipe that a grandchild keeps open.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

from farandole.launch.ssh.remote_worker import RemoteWorker
from farandole.process.messages import Exited, Started, WorkerMessage, send_message
from farandole.process.signals import TERMINATED_EXIT_CODE

RemoteWorkerFactory = Callable[[str, Any, Callable[[bytes], None], Callable[[WorkerMessage], None]], RemoteWorker]
"""Creates a worker on another host from its command, Horovod's slot, and the receivers of its lines and messages."""

_COMMANDS = {signal.SIGTERM: "stop", signal.SIGUSR1: "dump"}
"""The command that is sent to an agent instead of a signal."""
_DRAIN_S = 1.0
"""How long to wait for the last output of a worker that has ended: a child of it may hold the pipe open."""


class WorkerProcesses:
    """All workers of a gang: child processes of this process, or of agents on other hosts.

    Args:
        create_remote: Creates a worker on another host; None: there are no other hosts.
        is_local: Returns whether a host name denotes this machine.
    """

    def __init__(self, create_remote: RemoteWorkerFactory | None, is_local: Callable[[str], bool]) -> None:
        self._create_remote, self._is_local = create_remote, is_local
        self._local: dict[int, subprocess.Popen[bytes]] = {}
        self._remote: dict[int, RemoteWorker] = {}
        self._lock = threading.Lock()
        self._output_lock = threading.Lock()
        self._is_stopping = False
        self._is_output_closed = False

    def execute(self, command: str, slot: Any) -> tuple[int, float]:
        """Run one worker from start to end; called by Horovod's launcher.

        Args:
            command: `env NAME=VALUE... PROGRAM...`, quoted for a shell.
            slot: Horovod's slot of the worker: `rank`, `hostname`.

        Returns:
            Exit code and time, as Horovod expects them.
        """
        if not self._is_local(slot.hostname):
            return self._execute_remotely(command, slot)
        with self._lock:
            if self._is_stopping:
                return TERMINATED_EXIT_CODE, time.time()
            process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C in a terminal only reaches the supervisor, and the whole group can be killed.
                start_new_session=True,
            )
            self._local[slot.rank] = process
        self._send(Started(slot.rank, process.pid))
        return self._wait(slot.rank, process), time.time()

    def _execute_remotely(self, command: str, slot: Any) -> tuple[int, float]:
        assert self._create_remote is not None
        with self._lock:
            if self._is_stopping:
                return TERMINATED_EXIT_CODE, time.time()
            worker = self._create_remote(command, slot, self._write, self._send)
            self._remote[slot.rank] = worker
        code = worker.run()
        with self._lock:
            del self._remote[slot.rank]
        return code, time.time()

    def _wait(self, rank: int, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            threading.Thread(target=self._forward, args=(rank, name, pipe), daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        # The process is not reaped yet, so its id still denotes its own group when the group is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended_s = time.time()
        _kill_group(process)
        with self._lock:
            code = process.wait()
            del self._local[rank]
        for reader in readers:
            reader.join(_DRAIN_S)
        is_signal = code < 0
        self._send(Exited(rank, ended_s, None if is_signal else code, -code if is_signal else None))
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Ask all workers to save their state and exit; workers that have not started yet never do."""
        self.signal_all(signal.SIGTERM)
        with self._lock:
            self._is_stopping = True

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all workers, but not to their child processes."""
        with self._lock:
            for process in self._local.values():
                process.send_signal(number)
            for worker in self._remote.values():
                worker.send_command(_COMMANDS[number])

    def kill(self, rank: int | None = None) -> None:
        """Kill one worker with its process group. Default: all workers."""
        with self._lock:
            self._is_stopping = self._is_stopping or rank is None
            for number, process in self._local.items():
                if rank in (None, number):
                    _kill_group(process)
            for number, worker in self._remote.items():
                if rank in (None, number):
                    worker.send_command("kill")

    def forward_command(self, command: str) -> None:
        """Send a command to the agents of all workers on other hosts."""
        with self._lock:
            for worker in self._remote.values():
                worker.send_command(command)

    def _forward(self, rank: int, name: str, pipe: IO[bytes]) -> None:
        """Forward a worker's output line by line, each with its rank and stream in front, as Horovod does."""
        prefix = f"[{rank}]<{name}>:".encode()
        for line in pipe:
            self._write(prefix + line if line.endswith(b"\n") else prefix + line + b"\n")

    def _send(self, message: WorkerMessage) -> None:
        with self._output_lock:
            if not self._is_output_closed:
                try:
                    send_message(message)
                except BrokenPipeError:
                    self._is_output_closed = True

    def _write(self, line: bytes) -> None:
        """Write a line, or drop it if nobody reads: workers that save their state must not wait for a reader."""
        with self._output_lock:
            if not self._is_output_closed:
                try:
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
                except BrokenPipeError:
                    self._is_output_closed = True


def execute_commands(processes: WorkerProcesses, stop_timeout_s: float, commands: Iterable[str]) -> None:
    """Execute commands until the input ends; then their sender has died, and the workers are stopped.

    Args:
        processes: The workers.
        stop_timeout_s: How long the workers may take to save their state.
        commands: `stop`, `kill`, `kill RANK`, `dump`, or `mlflow_run ID`.
    """
    for line in commands:
        command, *arguments = line.split()
        if command == "stop":
            processes.stop()
        elif command == "kill":
            processes.kill(int(arguments[0]) if arguments else None)
        elif command == "dump":
            processes.signal_all(signal.SIGUSR1)
        else:
            processes.forward_command(line.strip())
    stop_and_kill(processes, stop_timeout_s)


def stop_and_kill(processes: WorkerProcesses, stop_timeout_s: float) -> None:
    """Ask the workers to save their state, and kill those that have not exited in time."""
    processes.stop()
    time.sleep(stop_timeout_s)
    processes.kill()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # all of its processes have ended
