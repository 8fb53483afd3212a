"""The workers' processes, in the launcher's process or a host's agent: started, heard, signalled, ended.

Horovod's launcher computes each worker's variables and place, and calls `Processes.execute` in a thread for each.
Its own way to start them goes through one more interpreter per worker, which costs half a second of processor time,
hides by which signal a worker ended, and waits for ever on a pipe that a grandchild keeps open.
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
from farandole.process.messages import send_message

RemoteWorkerFactory = Callable[[str, Any, Callable[[bytes], None], Callable[[dict[str, Any]], None]], RemoteWorker]
"""Makes a worker on another host, of the command, Horovod's place of it, and where its lines and messages go."""

_ORDERS = {signal.SIGTERM: "stop", signal.SIGUSR1: "dump"}
"""What an agent is told in place of a signal."""
_DRAIN_S = 1.0
"""How long the last words of a worker that has ended are waited for: a child of it may hold the pipe open."""


class WorkerProcesses:
    """All workers of a gang: children of this process, or of agents on other hosts.

    Args:
        remote: Makes a worker on another host; None: there are no other hosts.
        is_local: Whether a host's name means this machine.
    """

    def __init__(self, remote: RemoteWorkerFactory | None, is_local: Callable[[str], bool]) -> None:
        self._remote, self._is_local = remote, is_local
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._away: dict[int, RemoteWorker] = {}
        self._lock = threading.Lock()
        self._speaking = threading.Lock()
        self._stopping = False
        self._mute = False

    def execute(self, command: str, slot: Any) -> tuple[int, float]:
        """Be one worker's process from start to end; Horovod's launcher calls it.

        Args:
            command: `env NAME=VALUE… PROGRAM…`, quoted for a shell.
            slot: Horovod's place of the worker: `rank`, `hostname`.

        Returns:
            Exit code and time, as Horovod wants them.
        """
        if not self._is_local(slot.hostname):
            return self._execute_away(command, slot)
        with self._lock:
            if self._stopping:
                return 128 + signal.SIGTERM, time.time()
            process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is the supervisor's, and the whole group can be killed
            )
            self._running[slot.rank] = process
        self._tell({"event": "started", "rank": slot.rank, "pid": process.pid})
        return self._attend(slot.rank, process), time.time()

    def _execute_away(self, command: str, slot: Any) -> tuple[int, float]:
        assert self._remote is not None
        with self._lock:
            if self._stopping:
                return 128 + signal.SIGTERM, time.time()
            worker = self._remote(command, slot, self._write, self._tell)
            self._away[slot.rank] = worker
        code = worker.run()
        with self._lock:
            del self._away[slot.rank]
        return code, time.time()

    def _attend(self, rank: int, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            threading.Thread(target=self._forward, args=(rank, name, pipe), daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        # Not reaped yet, so its number still names its own group when the group is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended_s = time.time()
        _kill_group(process)
        with self._lock:
            code = process.wait()
            del self._running[rank]
        for reader in readers:
            reader.join(_DRAIN_S)
        how = {"code": code} if code >= 0 else {"signal": -code}
        self._tell({"event": "exited", "rank": rank, "time_s": ended_s, **how})
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Ask all workers to save their state and end."""
        self.signal_all(signal.SIGTERM)
        with self._lock:
            self._stopping = True  # one that has not begun need not

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the workers, not to what they started."""
        with self._lock:
            for process in self._running.values():
                process.send_signal(number)
            for worker in self._away.values():
                worker.order(_ORDERS[number])

    def kill(self, rank: int | None = None) -> None:
        """Kill one worker or all, with all that is in their groups."""
        with self._lock:
            self._stopping = self._stopping or rank is None
            for number, process in self._running.items():
                if rank in (None, number):
                    _kill_group(process)
            for number, worker in self._away.items():
                if rank in (None, number):
                    worker.order("kill")

    def pass_on(self, order: str) -> None:
        """Let all agents on other hosts hear an order; workers here need it not."""
        with self._lock:
            for worker in self._away.values():
                worker.order(order)

    def _forward(self, rank: int, name: str, pipe: IO[bytes]) -> None:
        """Pass a worker's output on, line by line, each with its rank and stream before it, as Horovod does."""
        prefix = f"[{rank}]<{name}>:".encode()
        for line in pipe:
            self._write(prefix + line if line.endswith(b"\n") else prefix + line + b"\n")

    def _tell(self, data: dict[str, Any]) -> None:
        with self._speaking:
            if not self._mute:
                try:
                    send_message(data)
                except BrokenPipeError:
                    self._mute = True

    def _write(self, line: bytes) -> None:
        """Where nobody reads any more, output is dropped: workers that save their state must not wait for a reader."""
        with self._speaking:
            if not self._mute:
                try:
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
                except BrokenPipeError:
                    self._mute = True


def execute_commands(processes: WorkerProcesses, patience_s: float, orders: Iterable[str]) -> None:
    """Follow the orders until there are no more; then nobody is left who could give any, and the workers end.

    Args:
        processes: The workers.
        patience_s: How long they may take to save their state.
        orders: `stop`, `kill`, `kill RANK`, `dump`, or `mlflow_run ID`.
    """
    for line in orders:
        order, *words = line.split()
        if order == "stop":
            processes.stop()
        elif order == "kill":
            processes.kill(int(words[0]) if words else None)
        elif order == "dump":
            processes.signal_all(signal.SIGUSR1)
        else:
            processes.pass_on(line.strip())
    stop_and_kill(processes, patience_s)


def stop_and_kill(processes: WorkerProcesses, patience_s: float) -> None:
    """Let the workers save their state, and end those that take too long."""
    processes.stop()
    time.sleep(patience_s)
    processes.kill()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # all have ended
