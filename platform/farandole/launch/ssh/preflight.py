"""Preflight checks of a job's hosts, before workers start on them.

`evaluate_probe` compares the answer of a host's agent with this machine. `check_hosts` probes all hosts at once and
also lets them connect to each other, as workers will; `farandole doctor --hosts` and a submission show its report.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.errors import FarandoleError, SpecError
from farandole.launch.agent.connectivity import open_port
from farandole.launch.agent.messages import Listening
from farandole.launch.agent.probe import versions
from farandole.launch.environment import portable_variables
from farandole.launch.hosts import Host, is_local, list_hosts
from farandole.launch.ssh.client import HostUnavailableError, agent_command, ask_agent, parse_agent_line
from farandole.shards import read_manifest
from farandole.spec import Job
from farandole.storage import is_uri
from farandole.tracking.store import resolve_store

_MAX_CONCURRENT_HOSTS = 64
_CONNECT_TIMEOUT_S = 5.0
_MAX_CLOCK_SKEW_S = 5.0
"""Object stores reject requests if the clock is wrong by minutes, and times in logs should be comparable."""
_SAME_VERSIONS = ("farandole", "sources", "torch", "horovod")


@dataclass(frozen=True)
class HostCheck:
    """Result of one check on one host.

    Args:
        host: Name of the host; None: the check concerns the job as a whole.
        name: The check: `ssh`, `versions`, `clock`, `disk`, `dataset`, `checkpoints`, `ports`, `job`.
        ok: Whether the check passed.
        found: The state that was found.
        remedy: The rule and what to do, where the check failed.
    """

    host: str | None
    name: str
    ok: bool
    found: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the check as `farandole doctor` lists it."""
        name = self.name if self.host is None else f"{self.host}: {self.name}"
        return {"name": name, "ok": self.ok, "found": self.found, "remedy": self.remedy}

    def __str__(self) -> str:
        prefix = f"{self.host}: " if self.host is not None else ""
        return f"{prefix}{self.found}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class PreflightReport:
    """Results of all checks of a job's hosts.

    Args:
        checks: All checks.
        hosts: All hosts that are listed.
    """

    checks: tuple[HostCheck, ...]
    hosts: tuple[Host, ...] = ()

    @property
    def failed(self) -> list[HostCheck]:
        """Checks that failed."""
        return [check for check in self.checks if not check.ok]

    @property
    def is_job_ok(self) -> bool:
        """True if the job itself can run on several hosts."""
        return all(check.host is not None for check in self.failed)

    @property
    def slots(self) -> int:
        """Number of workers that the hosts without a failed check can run."""
        failed = {check.host for check in self.failed}
        return sum(host.slots for host in self.hosts if host.name not in failed)


def check_job(job: Job, hosts: list[str]) -> list[HostCheck]:
    """Return failed checks of the settings that prevent a job from running on other hosts, whatever their state.

    Args:
        job: The job.
        hosts: Names of its hosts other than this machine.
    """
    if not hosts:
        return []
    checks = []
    names = ", ".join(hosts[:3]) + (", ..." if len(hosts) > 3 else "")
    if job.train.checkpoint.directory is None:
        found = (
            f"train.checkpoint.directory: not set, so checkpoints would be written to one of the hosts ({names}), and"
            " be lost with it"
        )
        remedy = "name a directory that all hosts share, or s3://BUCKET/FOLDER"
        checks.append(HostCheck(None, "job", False, found, remedy))
    store = resolve_store(job.tracking)
    if store.uri.startswith("sqlite:"):
        found = (
            f"tracking.uri: {store.shown} is a file on this machine, but worker 0 runs on one of the hosts ({names})"
        )
        remedy = "name an MLflow server that they can reach, http://HOST:PORT"
        checks.append(HostCheck(None, "job", False, found, remedy))
    return checks


def probe_request(job: Job, marker: str | None = None, *, thorough: bool) -> dict[str, Any]:
    """Return the request to probe a host.

    Args:
        job: The job.
        marker: Name of a file that this machine has created in the directory of checkpoints.
        thorough: Whether to probe dataset and checkpoints too, which takes a second more.
    """
    checkpoints = job.train.checkpoint.directory
    request: dict[str, Any] = {"do": "probe", "environment": portable_variables()}
    if thorough:
        request["dataset"] = job.data.output
        if checkpoints is not None and not is_uri(checkpoints):
            request |= {"checkpoints": checkpoints, "marker": marker}
    return request


def evaluate_probe(
    job: Job, host: str, answer: dict[str, Any], digest: str | None, asked_s: float, answered_s: float
) -> list[HostCheck]:
    """Compare the state of a host with the required one.

    Args:
        job: The job.
        host: Name of the host.
        answer: The answer of its agent.
        digest: Digest of the dataset as seen from this machine; None: there is no dataset yet.
        asked_s: When the request was sent, by the clock of this machine.
        answered_s: When the answer arrived.
    """
    return [
        _check_versions(host, answer["versions"]),
        _check_clock(host, answer["time_s"], asked_s, answered_s),
        _check_disk(job, host, answer),
        _check_address(host, answer),
        *_check_dataset(job, host, answer.get("dataset"), digest),
        *_check_checkpoints(job, host, answer.get("checkpoints")),
    ]


def _check_versions(host: str, remote: dict[str, str | None]) -> HostCheck:
    local = versions()
    pairs = [("python", _minor(remote["python"]), _minor(local["python"]))]
    pairs += [(name, _public(remote.get(name)), _public(local[name])) for name in _SAME_VERSIONS]
    differing = [(name, theirs, expected) for name, theirs, expected in pairs if theirs != expected]
    if not differing:
        return HostCheck(host, "versions", True, f"Python {remote['python']}, torch {remote['torch']}")
    shown = ", ".join(f"{name} {theirs or 'missing'}, here {expected}" for name, theirs, expected in differing)
    remedy = "all machines of a gang need the same versions: install the same requirements.lock there"
    return HostCheck(host, "versions", False, shown, remedy)


def _minor(version: str | None) -> str | None:
    return None if version is None else ".".join(version.split(".")[:2])


def _public(version: str | None) -> str | None:
    """Remove the suffix that names the graphics card for which the package was built: a launcher may have none."""
    return None if version is None else version.partition("+")[0]


def _check_clock(host: str, remote_s: float, asked_s: float, answered_s: float) -> HostCheck:
    skew_s = max(asked_s - remote_s, remote_s - answered_s, 0.0)
    if skew_s <= _MAX_CLOCK_SKEW_S:
        return HostCheck(host, "clock", True, f"correct to {max(skew_s, answered_s - asked_s):.1f} s")
    direction = "behind" if remote_s < asked_s else "ahead of"
    remedy = (
        f"at most {_MAX_CLOCK_SKEW_S:.0f} s are allowed: let an NTP service set the clocks (`timedatectl set-ntp true`)"
    )
    return HostCheck(host, "clock", False, f"its clock is {skew_s:.0f} s {direction} this machine's", remedy)


def _check_disk(job: Job, host: str, answer: dict[str, Any]) -> HostCheck:
    min_gb, free_gb, directory = job.backend.hosts.min_free_gb, answer["free_gb"], answer["home"]
    if not answer["writable"]:
        remedy = "change its permissions, or name another directory in backend.hosts.home"
        return HostCheck(host, "disk", False, f"{directory} cannot be written", remedy)
    found = f"{free_gb:,.1f} GB free in {directory}"
    if free_gb >= min_gb:
        return HostCheck(host, "disk", True, found)
    remedy = (
        f"at least {min_gb:g} GB are needed (backend.hosts.min_free_gb): free some space there, or name another"
        " directory in backend.hosts.home"
    )
    return HostCheck(host, "disk", False, found, remedy)


def _check_address(host: str, answer: dict[str, Any]) -> HostCheck:
    address = answer["address"] or "none"
    if ":" not in address:
        return HostCheck(host, "address", True, address)
    remedy = "Horovod connects by IPv4: give the host's IPv4 address in resources.hosts"
    return HostCheck(host, "address", False, f"SSH reaches it by IPv6 ({address})", remedy)


def _check_dataset(job: Job, host: str, answer: dict[str, str] | None, digest: str | None) -> Iterator[HostCheck]:
    if answer is None or (digest is None and "problem" in answer):
        return  # it has not been prepared yet
    path = job.data.output
    remedy = "data.output must be a directory that all hosts share, or s3://BUCKET/FOLDER"
    if "problem" in answer:
        yield HostCheck(host, "dataset", False, f"it does not see the dataset {path} ({answer['problem']})", remedy)
    elif digest is not None and answer["digest"] != digest:
        found = (
            f"the dataset {path} is a different one there: its digest is {answer['digest'][:12]}, here {digest[:12]}"
        )
        yield HostCheck(host, "dataset", False, found, remedy)
    else:
        yield HostCheck(host, "dataset", True, f"{path}, digest {answer['digest'][:12]}")


def _check_checkpoints(job: Job, host: str, answer: dict[str, Any] | None) -> Iterator[HostCheck]:
    if answer is None:
        return
    path = job.train.checkpoint.directory
    remedy = "train.checkpoint.directory must be one that all hosts share and can write to, or s3://BUCKET/FOLDER"
    if "problem" in answer:
        yield HostCheck(host, "checkpoints", False, f"{path} cannot be written ({answer['problem']})", remedy)
    elif not answer["shared"]:
        yield HostCheck(host, "checkpoints", False, f"{path} is a different directory there than here", remedy)
    else:
        yield HostCheck(host, "checkpoints", True, f"{path} is shared")


@contextmanager
def marker_file(job: Job) -> Iterator[str | None]:
    """Create a file in the directory of checkpoints until the block ends, so that hosts can check that they share it.

    Yields:
        The name of the file; None: this machine cannot write to such a directory.
    """
    directory = job.train.checkpoint.directory
    if directory is None or is_uri(directory):
        yield None
        return
    marker = Path(directory) / f".probe-{uuid.uuid4().hex}"
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:  # the hosts must see the directory, this machine need not
        yield None
        return
    try:
        yield marker.name
    finally:
        marker.unlink(missing_ok=True)


def check_hosts(job: Job) -> PreflightReport:
    """Check all hosts of a job at once.

    Raises:
        SpecError: The job names no hosts, or their list cannot be read.
    """
    if job.resources.hosts is None:
        raise SpecError("resources.hosts: not set; write a list of NAME:SLOTS, or one of `file` and `script`")
    hosts, problem = list_hosts(job.resources.hosts)
    if problem is not None:
        return PreflightReport((HostCheck(None, "job", False, f"resources.hosts: {problem}", "fix the script"),))
    remote = [host.name for host in hosts if not is_local(host.name)]
    checks = [*check_job(job, remote), *_check_slots(job, hosts)]
    try:
        digest = read_manifest(job.data.output).digest
    except FarandoleError:
        digest = None  # the job will prepare the dataset
    with marker_file(job) as marker, ThreadPoolExecutor(_MAX_CONCURRENT_HOSTS) as pool:
        by_host = list(pool.map(lambda host: _probe(job, host, digest, marker), remote))
    checks += [check for of_host in by_host for check in of_host]
    failed = {check.host for check in checks if not check.ok}
    checks += _check_ports(job, [host for host in remote if host not in failed])
    return PreflightReport(tuple(checks), tuple(hosts))


def _check_slots(job: Job, hosts: list[Host]) -> Iterator[HostCheck]:
    slots, least = sum(host.slots for host in hosts), job.resources.effective_min_workers
    if slots < least:
        remedy = f"at least {least} are needed (resources.min_workers): list more hosts, or request fewer workers"
        yield HostCheck(None, "job", False, f"resources.hosts: slots for {slots} workers", remedy)


def _probe(job: Job, host: str, digest: str | None, marker: str | None) -> list[HostCheck]:
    asked_s = time.time()
    try:
        answer = ask_agent(job.backend.hosts, host, probe_request(job, marker, thorough=True))
    except HostUnavailableError as error:
        return [HostCheck(host, "ssh", False, error.reason, error.remedy)]
    return [HostCheck(host, "ssh", True, "answers"), *evaluate_probe(job, host, answer, digest, asked_s, time.time())]


def _check_ports(job: Job, hosts: list[str]) -> list[HostCheck]:
    """Let every host connect to a free port of every other host and of this machine."""
    ssh = job.backend.hosts
    with _listening(job, hosts) as targets, open_port() as server, ThreadPoolExecutor(_MAX_CONCURRENT_HOSTS) as pool:
        port = server.getsockname()[1]

        def check(host: str) -> HostCheck:
            others: dict[str, Any] = {name: target for name, target in targets.items() if name != host}
            others["this machine"] = [ssh.address, port]
            try:
                request = {"do": "connect", "targets": others, "timeout_s": _CONNECT_TIMEOUT_S}
                problems = ask_agent(ssh, host, request)["problems"]
            except HostUnavailableError as error:
                return HostCheck(host, "ports", False, error.reason, error.remedy)
            if not problems:
                return HostCheck(host, "ports", True, f"reaches {len(others)} others")
            shown = ", ".join(f"{name} ({problem})" for name, problem in problems.items())
            remedy = (
                "workers listen on ports that the system chooses: let the hosts and this machine reach each other's"
                " ports from 1024 on, or name a network where they do in backend.hosts.address and interface"
            )
            return HostCheck(host, "ports", False, f"it does not reach {shown}", remedy)

        return list(pool.map(check, hosts))


@contextmanager
def _listening(job: Job, hosts: list[str]) -> Iterator[dict[str, list[Any]]]:
    """Open a port on each host until the block ends, and yield address and port by host."""
    processes = [
        subprocess.Popen(
            agent_command(job.backend.hosts, host),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for host in hosts
    ]
    try:
        targets = {}
        for host, process in zip(hosts, processes, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"do": "listen"}).encode() + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                message = parse_agent_line(line.decode(errors="replace"))
                if isinstance(message, Listening):
                    targets[host] = [message.address, message.port]
                    break
        yield targets
    finally:
        for process in processes:
            process.kill()
            process.communicate()
