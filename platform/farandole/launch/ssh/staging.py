"""Brings what a job needs to its other hosts, before each attempt: they share no file system with this machine.

The job's folder goes as a package, to hosts that do not have its digest yet. The serialized spec and the variables,
secrets among them, go to each worker's agent on the standard input of SSH: they are on no command line, and the
variables in no file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from farandole.launch.ssh.preflight import evaluate_probe, job_problems, marker_file, probe_request
from farandole.shards import read_manifest
from farandole.spec import Job
from farandole.tracking.provenance import load_git_state
from farandole.tracking.run_link import open_run_link, read_run_id
from farandole.tracking.store import resolve_store

_AT_ONCE = 64
_SEND_S = 600.0
_FENCE, _LOST = 0.7, 0.9
"""After which part of `resources.heartbeat_timeout_s` an agent that hears nothing kills its worker, and after which the
launcher takes a silent host for lost: later, as it starts another gang then, and yet before it would take the worker
alone for frozen."""


@dataclass
class Staging:
    """Makes hosts ready for one job.

    Args:
        job: The job.
        directory: Its directory here.
    """

    job: Job
    directory: Path
    _seen_whole: set[str] = field(default_factory=set, init=False)
    """Hosts that see dataset and checkpoints."""
    _address: str | None = field(default=None, init=False)
    """Of this machine, as the hosts see it."""

    @cached_property
    def _package(self) -> CodeArchive:
        assert self.job.folder is not None
        return pack(self.job.folder)

    @cached_property
    def _digest(self) -> str:
        return read_manifest(self.job.data.output).digest

    @cached_property
    def _commit(self) -> tuple[str | None, str | None]:
        return load_git_state(self.directory, self.job.folder)

    def prepare(self, hosts: Sequence[Host]) -> dict[str, str]:
        """Look at hosts and give them what they lack; returns why some cannot be used, by name.

        Raises:
            SpecError: The job cannot run on other hosts at all.
        """
        away = [host.name for host in hosts if not is_local(host.name)]
        problems = job_problems(self.job, away)
        if problems:
            raise SpecError("\n".join(problems))
        if not away:
            return {}
        with marker_file(self.job) as probe, ThreadPoolExecutor(min(len(away), _AT_ONCE)) as pool:
            reasons = list(pool.map(lambda name: self._prepare(name, probe), away))
        return {name: reason for name, reason in zip(away, reasons, strict=True) if reason is not None}

    def _prepare(self, host: str, probe: str | None) -> str | None:
        ssh, package = self.job.backend.hosts, self._package
        request = probe_request(self.job, probe, thorough=host not in self._seen_whole)
        request |= {"code": package.digest, "mark": self._mark(host)}
        asked_s = time.time()
        try:
            seen = ask_agent(ssh, host, request)
            findings = evaluate_probe(self.job, host, seen, self._digest, asked_s, time.time())
            wrong = [finding for finding in findings if not finding.ok]
            if wrong:
                return "; ".join(f"{finding.found}; {finding.remedy}" for finding in wrong)
            if not seen["has_code"]:
                request = {"do": "receive", "digest": package.digest, "size_bytes": len(package.data)}
                ask_agent(ssh, host, request, package.data, timeout_s=_SEND_S)
        except HostUnavailableError as trouble:
            return str(trouble)
        self._seen_whole.add(host)
        self._address = self._address or seen["launcher"]
        return None

    def _mark(self, host: str) -> str:
        return f"{host}:{self.directory}"

    def away(self, attempt: Attempt, *, register: bool) -> dict[str, Any] | None:
        """What Horovod's launcher needs to know of the other hosts, secrets among it; None: there are none.

        Args:
            attempt: The attempt.
            register: Whether worker 0 adds a model version.
        """
        hosts = [host.name for host in attempt.hosts if not is_local(host.name)]
        if not hosts:
            return None
        ssh, resources = self.job.backend.hosts, self.job.resources
        record = open_run_link(self.directory, resolve_store(self.job.tracking).shown)
        return {
            "hosts": {host: agent_command(ssh, host) for host in hosts},
            "address": ssh.address or self._address,
            "limit_s": _LOST * resources.heartbeat_timeout_s,
            "request": {
                "do": "work",
                "environment": portable_variables(),
                "job": self.directory.name,
                "commit": self._commit,
                "spec": self.job.model_dump_json(),
                "code": self._package.digest,
                "arguments": ["--register"] if register else [],
                "mark": str(self.directory),
                "record": asdict(record),
                "mlflow_run_id": read_run_id(self.directory),
                "cpus": resources.cpus,
                "interface": ssh.interface,
                "address": ssh.address,
                "limit_s": _FENCE * resources.heartbeat_timeout_s,
                "patience_s": resources.stop_timeout_s,
            },
        }


@contextmanager
def remote_hosts_file(path: Path, away: dict[str, Any] | None) -> Iterator[Path | None]:
    """What concerns other hosts in a file that only this user may read. Horovod's launcher deletes it when it has read
    it; at the latest it goes when the block ends. None: there are no other hosts."""
    path.unlink(missing_ok=True)
    if away is None:
        yield None
        return
    try:
        path.touch(mode=0o600)
        path.write_text(json.dumps(away), encoding="utf-8")
        yield path
    finally:
        path.unlink(missing_ok=True)
