"""Horovod's own launcher, as a process that outlives neither its gang nor the one that started it.

It takes orders on standard input, one in a line: `stop` (save your state and end), `kill` or `kill RANK`, `dump` (show
where each worker is), `mlflow_run ID` (for other hosts). When the input ends, its parent has died: it stops the gang,
kills what is left after a while, and ends.
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
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.process.parent_death import named_parent, signal_on_parent_death


def main() -> None:
    """Launch the gang, and return when all of it has ended."""
    signal_on_parent_death(signal.SIGTERM)
    if not named_parent().is_alive:
        sys.exit("the parent ended before the launcher began")
    arguments = _arguments()
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

    away = _read_away(arguments.away)
    wanted = settings.Settings(
        verbose=0,
        num_proc=arguments.workers,
        hosts=arguments.hosts,
        key=secret.make_secret_key(),
        start_timeout=timeout.Timeout(arguments.start_timeout, "the hosts did not answer in time ({activity})"),
        run_func_mode=False,
    )
    processes = WorkerProcesses(lambda *given: _worker_away(away, *given), lambda name: name not in away["hosts"])
    threading.Thread(
        target=execute_commands, args=(processes, arguments.stop_timeout, sys.stdin), name="orders", daemon=True
    ).start()
    # By which workers of this machine meet the others; each agent finds its own host's.
    outward = interface_of(away["address"]) if away["hosts"] else None
    interfaces = {outward} if outward is not None else network.get_local_intfs()
    address = away["address"] or network.get_driver_ip(interfaces)
    try:
        launch_gloo(
            arguments.command,
            lambda command, slot, events: _execute(processes, command, slot, events, arguments.stop_timeout),
            wanted,
            interfaces,
            dict(os.environ),
            address,
        )
    except RuntimeError as error:
        # Horovod's verdict; ours is made of each worker's own exit.
        print(error, file=sys.stderr)
        return 1
    return 0


def _execute(
    processes: WorkerProcesses, command: str, slot: Any, events: list[threading.Event], patience_s: float
) -> tuple[int, float]:
    """One worker. Horovod's one event is set when this process gets SIGTERM: its parent has died without a word."""
    if slot.rank == 0:
        for event in events:
            threading.Thread(target=_stop_when, args=(event, processes, patience_s), daemon=True).start()
    return processes.execute(command, slot)


def _stop_when(event: threading.Event, processes: WorkerProcesses, patience_s: float) -> None:
    event.wait()
    stop_and_kill(processes, patience_s)


def _read_away(path: Path | None) -> dict[str, Any]:
    """What concerns other hosts: `hosts`, name to the command that leads to its agent; `request`, what an agent has to
    do; `address` of this machine; `limit_s`. It holds secrets, so it goes as soon as it is read."""
    if path is None:
        return {"hosts": {}, "address": None}
    away: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return away


def _worker_away(
    away: dict[str, Any],
    command: str,
    slot: Any,
    forward: Callable[[bytes], None],
    tell: Callable[[dict[str, Any]], None],
) -> RemoteWorker:
    variables, _ = parse_worker_command(command)
    request = {**away["request"], "rank": slot.rank, "variables": variables}
    request["mark"] = f"{slot.hostname}:{request['mark']}"
    return RemoteWorker(slot.hostname, away["hosts"][slot.hostname], request, away["limit_s"], forward, tell)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.launch.horovodrun")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--hosts", required=True, help="NAME:SLOTS,…; all slots together are the workers")
    parser.add_argument("--start-timeout", type=int, required=True, help="seconds in which hosts have to answer")
    parser.add_argument("--stop-timeout", type=float, required=True, help="seconds to save their state")
    parser.add_argument("--away", type=Path, help="a file about workers on other hosts, which is deleted")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what each worker is")
    return parser.parse_args()


if __name__ == "__main__":
    main()
