"""Process of Horovod's launcher, which outlives neither its gang nor its parent.

It reads commands from standard input, one per line: `stop` (save the state and exit), `kill` or `kill RANK`, `dump`
(print the stack of each worker), `mlflow_run ID` (for other hosts). When the input ends, the parent has died: the
launcher stops the gang, kills the workers that are left after a while, and exits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farandole.launch.agent.addresses import interface_of
from farandole.launch.processes import WorkerProcesses, execute_commands, stop_and_kill
from farandole.launch.ssh.remote_worker import RemoteWorker, parse_worker_command
from farandole.process.messages import WorkerMessage
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.process.parent_death import named_parent, signal_on_parent_death


def main() -> None:
    """Launch the gang and exit when all workers have ended."""
    signal_on_parent_death(signal.SIGTERM)
    if not named_parent().is_alive:
        sys.exit("the parent process ended before the launcher started")
    arguments = _parse_arguments()
    try:
        code = _launch(arguments)
    finally:
        kill_orphans(os.environ[GANG_VARIABLE])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may still hold the pipe of a process that cannot be killed


def _launch(arguments: argparse.Namespace) -> int:
    from horovod.runner.common.util import secret, settings, timeout
    from horovod.runner.gloo_run import launch_gloo
    from horovod.runner.util import network

    remote = _read_remote_file(arguments.remote)
    horovod_settings = settings.Settings(
        verbose=0,
        num_proc=arguments.workers,
        hosts=arguments.hosts,
        key=secret.make_secret_key(),
        start_timeout=timeout.Timeout(arguments.start_timeout, "the hosts did not answer in time ({activity})"),
        run_func_mode=False,
    )
    processes = WorkerProcesses(
        lambda *given: _create_remote_worker(remote, *given), lambda name: name not in remote["hosts"]
    )
    threading.Thread(
        target=execute_commands, args=(processes, arguments.stop_timeout, sys.stdin), name="commands", daemon=True
    ).start()
    # The interface by which workers on this machine reach the others; each agent finds that of its host.
    interface = interface_of(remote["address"]) if remote["hosts"] else None
    interfaces = {interface} if interface is not None else network.get_local_intfs()
    address = remote["address"] or network.get_driver_ip(interfaces)
    try:
        launch_gloo(
            arguments.command,
            lambda command, slot, events: _execute(processes, command, slot, events, arguments.stop_timeout),
            horovod_settings,
            interfaces,
            dict(os.environ),
            address,
        )
    except RuntimeError as error:
        # Horovod's verdict is only for the log; the supervisor judges by each worker's own exit.
        print(error, file=sys.stderr)
        return 1
    return 0


def _execute(
    processes: WorkerProcesses, command: str, slot: Any, events: list[threading.Event], stop_timeout_s: float
) -> tuple[int, float]:
    """Run one worker. Horovod sets its event when this process receives SIGTERM because its parent has died."""
    if slot.rank == 0:
        for event in events:
            threading.Thread(target=_stop_after, args=(event, processes, stop_timeout_s), daemon=True).start()
    return processes.execute(command, slot)


def _stop_after(event: threading.Event, processes: WorkerProcesses, stop_timeout_s: float) -> None:
    event.wait()
    stop_and_kill(processes, stop_timeout_s)


def _read_remote_file(path: Path | None) -> dict[str, Any]:
    """Read the description of other hosts and delete the file at once, since it holds secrets.

    Returns:
        `hosts`: by name, the command that starts the host's agent; `request`: the request to each agent; `address` of
        this machine; `limit_s`: how long a host may be silent.
    """
    if path is None:
        return {"hosts": {}, "address": None}
    remote: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return remote


def _create_remote_worker(
    remote: dict[str, Any],
    command: str,
    slot: Any,
    forward: Callable[[bytes], None],
    send: Callable[[WorkerMessage], None],
) -> RemoteWorker:
    variables, _ = parse_worker_command(command)
    request = {**remote["request"], "rank": slot.rank, "variables": variables}
    request["mark"] = f"{slot.hostname}:{request['mark']}"
    return RemoteWorker(slot.hostname, remote["hosts"][slot.hostname], request, remote["limit_s"], forward, send)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.launch.horovodrun")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--hosts", required=True, help="NAME:SLOTS,...; the slots add up to the number of workers")
    parser.add_argument("--start-timeout", type=int, required=True, help="seconds in which hosts have to answer")
    parser.add_argument("--stop-timeout", type=float, required=True, help="seconds to save the state")
    parser.add_argument("--remote", type=Path, help="a file that describes other hosts; it is deleted")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command of each worker")
    return parser.parse_args()


if __name__ == "__main__":
    main()
