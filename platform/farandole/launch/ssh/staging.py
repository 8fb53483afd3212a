"""Staging: copy what a job needs to its other hosts, before each attempt; they share no file system with this machine.

The job's folder is sent as an archive to hosts that do not have its digest yet. The serialized spec and the variables,
secrets among them, are sent to each worker's agent on the standard input of SSH: they appear on no command line, and
the variables in no file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from farandole.errors import SpecError
from farandole.launch.attempt import Attempt
from farandole.launch.code_archive import CodeArchive, pack
from farandole.launch.environment import portable_variables
from farandole.launch.hosts import Host, is_local
from farandole.launch.ssh.client import HostUnavailableError, agent_command, ask_agent
from farandole.launch.ssh.preflight import check_job, evaluate_probe, marker_file, probe_request
from farandole.shards import read_manifest
from farandole.spec import Job
from farandole.tracking.provenance import load_git_state
from farandole.tracking.run_link import open_run_link, read_run_id
from farandole.tracking.store import resolve_store

_MAX_CONCURRENT_HOSTS = 64
_SEND_TIMEOUT_S = 600.0
_AGENT_LIMIT, _LAUNCHER_LIMIT = 0.7, 0.9
"""Parts of `resources.heartbeat_timeout_s`: an agent that receives nothing for the first part kills its worker, and the
launcher gives up a host that is silent for the second part. The launcher comes later, since it then starts another
gang, and yet before it would consider the worker alone to be frozen."""


@dataclass
class Staging:
    """Preparation of the hosts of one job.

    Args:
        job: The job.
        directory: The job's directory on this machine.
    """

    job: Job
    directory: Path
    _probed: set[str] = field(default_factory=set, init=False)
    """Hosts that see dataset and checkpoints."""
    _address: str | None = field(default=None, init=False)
    """Address of this machine as the hosts see it."""

    @cached_property
    def _archive(self) -> CodeArchive:
        assert self.job.folder is not None
        return pack(self.job.folder)

    @cached_property
    def _digest(self) -> str:
        return read_manifest(self.job.data.output).digest

    @cached_property
    def _commit(self) -> tuple[str | None, str | None]:
        return load_git_state(self.directory, self.job.folder)

    def prepare(self, hosts: Sequence[Host]) -> dict[str, str]:
        """Check hosts and send them what they lack.

        Returns:
            By name of the host: why it cannot be used.

        Raises:
            SpecError: The job cannot run on other hosts at all.
        """
        remote = [host.name for host in hosts if not is_local(host.name)]
        failed = check_job(self.job, remote)
        if failed:
            raise SpecError("\n".join(map(str, failed)))
        if not remote:
            return {}
        with marker_file(self.job) as marker, ThreadPoolExecutor(min(len(remote), _MAX_CONCURRENT_HOSTS)) as pool:
            reasons = list(pool.map(lambda name: self._prepare_host(name, marker), remote))
        return {name: reason for name, reason in zip(remote, reasons, strict=True) if reason is not None}

    def _prepare_host(self, host: str, marker: str | None) -> str | None:
        ssh, archive = self.job.backend.hosts, self._archive
        request = probe_request(self.job, marker, thorough=host not in self._probed)
        request |= {"code": archive.digest, "mark": f"{host}:{self.directory}"}
        asked_s = time.time()
        try:
            answer = ask_agent(ssh, host, request)
            checks = evaluate_probe(self.job, host, answer, self._digest, asked_s, time.time())
            failed = [check for check in checks if not check.ok]
            if failed:
                return "; ".join(f"{check.found}; {check.remedy}" for check in failed)
            if not answer["has_code"]:
                request = {"do": "receive_code", "digest": archive.digest, "size_bytes": len(archive.data)}
                ask_agent(ssh, host, request, archive.data, timeout_s=_SEND_TIMEOUT_S)
        except HostUnavailableError as error:
            return str(error)
        self._probed.add(host)
        self._address = self._address or answer["launcher"]
        return None

    def describe_remote_hosts(self, attempt: Attempt, *, register: bool) -> dict[str, Any] | None:
        """Return what Horovod's launcher must know about other hosts, secrets included; None: there are none.

        Args:
            attempt: The attempt.
            register: Whether worker 0 registers a model version.
        """
        hosts = [host.name for host in attempt.hosts if not is_local(host.name)]
        if not hosts:
            return None
        ssh, resources = self.job.backend.hosts, self.job.resources
        record = open_run_link(self.directory, resolve_store(self.job.tracking).shown)
        return {
            "hosts": {host: agent_command(ssh, host) for host in hosts},
            "address": ssh.address or self._address,
            "limit_s": _LAUNCHER_LIMIT * resources.heartbeat_timeout_s,
            "request": {
                "do": "run_worker",
                "environment": portable_variables(),
                "job": self.directory.name,
                "commit": self._commit,
                "spec": self.job.model_dump_json(),
                "code": self._archive.digest,
                "arguments": ["--register"] if register else [],
                "mark": str(self.directory),
                "record": asdict(record),
                "mlflow_run_id": read_run_id(self.directory),
                "cpus": resources.cpus,
                "interface": ssh.interface,
                "address": ssh.address,
                "limit_s": _AGENT_LIMIT * resources.heartbeat_timeout_s,
                "stop_timeout_s": resources.stop_timeout_s,
            },
        }
