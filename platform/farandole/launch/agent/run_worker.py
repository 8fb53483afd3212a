"""Keeps one worker on this host: starts it as the launcher says, passes on what it says, and never leaves it behind.

The launcher writes a line to standard input at least once a second: an order, or `ping`. Where nothing comes for
`limit_s`, the launcher has died with its machine or the network is cut, and another gang will soon go on from the last
checkpoint: the worker is killed at once, before that can happen. Where the input ends, the launcher has ended in good
order: the worker may save its state first. SSH's own connection tells neither in time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from farandole.jobdir.layout import SPEC
from farandole.launch.agent.addresses import interface_of, launcher_address, own_address
from farandole.launch.agent.receive_code import use_code
from farandole.launch.processes import WorkerProcesses, execute_commands
from farandole.process.atomic import write_json
from farandole.process.messages import send_message
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.spec import home
from farandole.tracking.provenance import write_git_state
from farandole.tracking.run_link import RunLink, write_run_id, write_run_link

_SIGN_S = 1.0
_TRAVELS = re.compile(r"^(HOROVOD_\w+|NCCL_\w+|FARANDOLE_\w+|PYTHONUNBUFFERED|LANG|LC_\w+|TZ)$")
"""Of the variables on the launcher's command lines those that mean the same here: a PATH or HOME does not."""


@dataclass
class _Heard:
    """When the launcher was last heard, by this process's monotonic clock."""

    at_s: float


def run_worker(request: dict[str, Any]) -> dict[str, Any]:
    """Keep a worker until it has ended.

    Args:
        request: `job`: the job's id. `spec`: the serialized spec. `code`: the digest of its folder. `variables`: those
            of Horovod's launcher. `arguments`: of the worker. `rank`. `mark`: what all processes of the job carry here.
            `record`, `mlflow_run_id`, `commit`: of the MLflow run, as far as known. `limit_s`: how long the launcher
            may be silent. `patience_s`: how long the worker may save its state.
    """
    directory = home() / "jobs" / request["job"]
    os.environ.update(_variables(request))
    command = _prepared(request, directory)
    processes = WorkerProcesses(remote=None, is_local=lambda name: True)
    heard = _Heard(time.monotonic())
    for target, arguments in (
        (_follow, (processes, request["patience_s"], directory, heard)),
        (_watch, (processes, request["limit_s"], heard)),
    ):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    try:
        processes.execute(shlex.join(command), SimpleNamespace(rank=request["rank"], hostname="localhost"))
    finally:
        kill_orphans(request["mark"], rank=request["rank"])
    sys.stdout.flush()
    os._exit(0)  # threads may still read


def _prepared(request: dict[str, Any], directory: Path) -> list[str]:
    """Put the job's files in place; returns the worker's command."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = {**json.loads(request["spec"]), "folder": str(use_code(request["code"]))}
    path = directory / SPEC
    write_json(path, spec, indent=1)
    write_run_link(directory, RunLink(**request["record"]))
    write_git_state(directory, *request["commit"])
    if request["mlflow_run_id"] is not None:
        write_run_id(directory, request["mlflow_run_id"])
    worker = [sys.executable, "-m", "farandole.training.worker", "--job", str(path), "--directory", str(directory)]
    return [*worker, *request["arguments"]]


def _variables(request: dict[str, Any]) -> dict[str, str]:
    """What the launcher says, and what only this host knows: its interface, and the launcher's address as seen here."""
    variables = {name: value for name, value in request["variables"].items() if _TRAVELS.match(name)}
    variables[GANG_VARIABLE] = request["mark"]
    address = own_address()
    interface = request["interface"] or (interface_of(address) if address else None)
    if interface is not None:
        variables |= {"HOROVOD_GLOO_IFACE": interface, "NCCL_SOCKET_IFNAME": interface}
    launcher = request["address"] or launcher_address()
    if launcher is not None:
        variables["HOROVOD_GLOO_RENDEZVOUS_ADDR"] = launcher
    threads = request["cpus"] or max(1, len(os.sched_getaffinity(0)) // int(variables["HOROVOD_LOCAL_SIZE"]))
    return {**variables, "OMP_NUM_THREADS": str(threads)}


def _follow(processes: WorkerProcesses, patience_s: float, directory: Path, heard: _Heard) -> None:
    """Follow the launcher's orders until there are no more."""

    def lines() -> Any:
        for raw in sys.stdin.buffer:
            heard.at_s = time.monotonic()
            line = raw.decode()
            if line.startswith("mlflow_run "):
                write_run_id(directory, line.split()[1])
            elif line.strip() != "ping":
                yield line

    execute_commands(processes, patience_s, lines())


def _watch(processes: WorkerProcesses, limit_s: float, heard: _Heard) -> None:
    """Tell the launcher that this host is there, and listen whether the launcher is."""
    while True:
        time.sleep(_SIGN_S)
        silent_s = time.monotonic() - heard.at_s
        if silent_s > limit_s:
            processes.kill()
            return
        try:
            send_message({"event": "sign"})
        except BrokenPipeError:
            return  # the input ends as well, and that is what counts
