"""Run of one worker on this host: start, heartbeats, commands of the launcher, and a clean end in every case.

The launcher writes a line to standard input at least once a second: a command, or `ping`. If nothing arrives for
`limit_s`, the launcher's machine has died or the network is cut, and another gang will soon resume from the last
checkpoint: the worker is killed before that can happen. If the input ends, the launcher has ended in an orderly way,
and the worker may save its state first. SSH's own connection reports neither in time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from farandole.jobdir.layout import SPEC, job_directory
from farandole.launch.agent.addresses import interface_of, launcher_address, own_address
from farandole.launch.agent.messages import AgentAlive, send
from farandole.launch.agent.receive_code import use_code
from farandole.launch.processes import WorkerProcesses, execute_commands
from farandole.process.atomic import write_json
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.tracking.provenance import write_git_state
from farandole.tracking.run_link import RunLink, write_run_id, write_run_link

_HEARTBEAT_S = 1.0
_PORTABLE = re.compile(r"^(HOROVOD_\w+|NCCL_\w+|FARANDOLE_\w+|PYTHONUNBUFFERED|LANG|LC_\w+|TZ)$")
"""Variables on the launcher's command lines that mean the same on this host, unlike PATH or HOME."""


@dataclass
class _LastInput:
    """Time of the launcher's last line, by the monotonic clock."""

    at_s: float


def run_worker(request: dict[str, Any]) -> dict[str, Any]:
    """Run a worker until it ends, and exit.

    Args:
        request: `job`: id of the job. `spec`: the serialized spec. `code`: digest of its folder. `variables`: those
            of Horovod's launcher. `arguments`: of the worker. `rank`. `mark`: the mark of all processes of the job on
            this host. `record`, `mlflow_run_id`, `commit`: of the MLflow run, as far as known. `limit_s`: how long the
            launcher may be silent. `stop_timeout_s`: how long the worker may take to save its state.
    """
    directory = job_directory(request["job"])
    os.environ.update(_variables(request))
    command = _write_job_files(request, directory)
    processes = WorkerProcesses(create_remote=None, is_local=lambda name: True)
    last_input = _LastInput(time.monotonic())
    for target, arguments in (
        (_execute_commands, (processes, request["stop_timeout_s"], directory, last_input)),
        (_send_heartbeats, (processes, request["limit_s"], last_input)),
    ):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    try:
        processes.execute(shlex.join(command), SimpleNamespace(rank=request["rank"], hostname="localhost"))
    finally:
        kill_orphans(request["mark"], rank=request["rank"])
    sys.stdout.flush()
    os._exit(0)  # threads may still read


def _write_job_files(request: dict[str, Any], directory: Path) -> list[str]:
    """Write the job's files and return the worker's command."""
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
    """Return the launcher's variables, and those that depend on this host: interface and address of the launcher."""
    variables = {name: value for name, value in request["variables"].items() if _PORTABLE.match(name)}
    variables[GANG_VARIABLE] = request["mark"]
    address = own_address()
    interface = request["interface"] or (interface_of(address) if address else None)
    if interface is not None:
        variables |= {"HOROVOD_GLOO_IFACE": interface, "NCCL_SOCKET_IFNAME": interface}
    launcher = request["address"] or launcher_address()
    if launcher is not None:
        variables["HOROVOD_GLOO_RENDEZVOUS_ADDR"] = launcher
    num_threads = request["cpus"] or max(1, len(os.sched_getaffinity(0)) // int(variables["HOROVOD_LOCAL_SIZE"]))
    return {**variables, "OMP_NUM_THREADS": str(num_threads)}


def _execute_commands(
    processes: WorkerProcesses, stop_timeout_s: float, directory: Path, last_input: _LastInput
) -> None:
    """Execute the launcher's commands until the input ends."""

    def commands() -> Iterator[str]:
        for raw in sys.stdin.buffer:
            last_input.at_s = time.monotonic()
            line = raw.decode()
            if line.startswith("mlflow_run "):
                write_run_id(directory, line.split()[1])
            elif line.strip() != "ping":
                yield line

    execute_commands(processes, stop_timeout_s, commands())


def _send_heartbeats(processes: WorkerProcesses, limit_s: float, last_input: _LastInput) -> None:
    """Report that this host is alive, and kill the worker if the launcher is silent for too long."""
    while True:
        time.sleep(_HEARTBEAT_S)
        if time.monotonic() - last_input.at_s > limit_s:
            processes.kill()
            return
        try:
            send(AgentAlive())
        except BrokenPipeError:
            return  # the input ends as well, which stops the worker
