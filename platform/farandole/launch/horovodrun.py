"""Horovod's own launcher, as a process that outlives neither its gang nor the one that started it.

It takes orders on standard input, one in a line: `stop` (save your state and end), `kill` or `kill RANK`, `dump` (show
where each worker is). When the input ends, its parent has died: it stops the gang, kills what is left after a while,
and ends.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from typing import Any

from farandole.launch.leftovers import sweep
from farandole.launch.processes import Processes
from farandole.training.messages import GANG_VARIABLE, PARENT_VARIABLE
from farandole.training.parent import end_with_parent


def main() -> None:
    """Launch the gang, and return when all of it has ended."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != int(os.environ.pop(PARENT_VARIABLE)):
        sys.exit("the parent ended before the launcher began")
    arguments = _arguments()
    try:
        code = _launch(arguments)
    finally:
        sweep(os.environ[GANG_VARIABLE])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may still hold the pipe of a process that cannot be killed


def _launch(arguments: argparse.Namespace) -> int:
    from horovod.runner.common.util import secret, settings, timeout
    from horovod.runner.common.util.hosts import parse_hosts_and_slots
    from horovod.runner.driver import driver_service
    from horovod.runner.gloo_run import launch_gloo
    from horovod.runner.util import network

    names, _ = parse_hosts_and_slots(arguments.hosts)
    remote = network.filter_local_addresses(names)
    wanted = settings.Settings(
        verbose=0,
        num_proc=arguments.workers,
        hosts=arguments.hosts,
        key=secret.make_secret_key(),
        start_timeout=timeout.Timeout(arguments.start_timeout, "the hosts did not answer in time ({activity})"),
        run_func_mode=False,
    )
    interfaces = driver_service.get_common_interfaces(wanted, names, remote, None)
    processes = Processes(_remote_command, lambda name: name not in remote)
    threading.Thread(target=_obey, args=(processes, arguments.stop_timeout), name="orders", daemon=True).start()
    address = network.get_driver_ip(interfaces)
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
    processes: Processes, command: str, slot: Any, events: list[threading.Event], patience_s: float
) -> tuple[int, float]:
    """One worker. Horovod's one event is set when this process gets SIGTERM: its parent has died without a word."""
    if slot.rank == 0:
        for event in events:
            threading.Thread(target=_stop_when, args=(event, processes, patience_s), daemon=True).start()
    return processes.execute(command, slot)


def _stop_when(event: threading.Event, processes: Processes, patience_s: float) -> None:
    event.wait()
    _stop_and_kill(processes, patience_s)


def _obey(processes: Processes, patience_s: float) -> None:
    """Follow the orders until there are no more."""
    for line in sys.stdin:
        order, *ranks = line.split()
        if order == "stop":
            processes.stop()
        elif order == "kill":
            processes.kill(int(ranks[0]) if ranks else None)
        elif order == "dump":
            processes.signal_all(signal.SIGUSR1)
    _stop_and_kill(processes, patience_s)


def _stop_and_kill(processes: Processes, patience_s: float) -> None:
    processes.stop()
    time.sleep(patience_s)
    processes.kill()


def _remote_command(host: str, command: str) -> list[str]:
    """The command that starts a worker on another host, by SSH, as Horovod does."""
    from horovod.runner.util.remote import get_remote_command

    there = shlex.quote(f"cd {shlex.quote(os.getcwd())} > /dev/null 2>&1 ; exec {command}")
    return ["/bin/sh", "-c", f"exec {get_remote_command(there, host=host)}"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.launch.horovodrun")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--hosts", required=True, help="NAME:SLOTS,…; all slots together are the workers")
    parser.add_argument("--start-timeout", type=int, required=True, help="seconds in which hosts have to answer")
    parser.add_argument("--stop-timeout", type=float, required=True, help="seconds to save their state")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what each worker is")
    return parser.parse_args()


if __name__ == "__main__":
    main()
