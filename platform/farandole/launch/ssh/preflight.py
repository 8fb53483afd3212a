"""What has to be true of a job's hosts before workers start on them; what is not is told by host, finding and remedy.

`judge` compares what a host's agent saw with what is here. `check_hosts` asks all hosts at once and also lets them
reach for each other, as workers will: it is what `farandole doctor --hosts` and a submission show.
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
from farandole.launch.agent.probe import versions
from farandole.launch.environment import portable_variables
from farandole.launch.hosts import Host, is_local, list_hosts
from farandole.launch.ssh.client import HostUnavailableError, agent_command, ask_agent
from farandole.process.messages import parse_line
from farandole.shards import read_manifest
from farandole.spec import Job
from farandole.storage import is_uri
from farandole.tracking.store import resolve_store

_AT_ONCE = 64
_REACH_S = 5.0
_MAX_SKEW_S = 5.0
"""Object stores refuse requests of clocks that are minutes wrong, and times in logs shall be comparable."""
_SAME = ("farandole", "sources", "torch", "horovod")


@dataclass(frozen=True)
class HostCheck:
    """One thing that was looked at on one host.

    Args:
        host: The host; None: the job as a whole.
        name: What was looked at: `ssh`, `versions`, `clock`, `disk`, `dataset`, `checkpoints`, `ports`, `job`.
        ok: Whether it is as it has to be.
        found: What is there.
        remedy: The rule and what to do, where it is not.
    """

    host: str | None
    name: str
    ok: bool
    found: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The finding as `farandole doctor` lists it."""
        name = self.name if self.host is None else f"{self.host}: {self.name}"
        return {"name": name, "ok": self.ok, "found": self.found, "remedy": self.remedy}

    def __str__(self) -> str:
        place = f"{self.host}: " if self.host is not None else ""
        return f"{place}{self.found}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class PreflightReport:
    """What a look at all hosts of a job found.

    Args:
        findings: All that was looked at.
        hosts: All hosts that are listed.
    """

    findings: tuple[HostCheck, ...]
    hosts: tuple[Host, ...] = ()

    @property
    def wrong(self) -> list[HostCheck]:
        """What is not as it has to be."""
        return [finding for finding in self.findings if not finding.ok]

    @property
    def fit(self) -> bool:
        """Whether the job itself can run on such hosts."""
        return all(finding.host is not None for finding in self.wrong)

    @property
    def slots(self) -> int:
        """Room on the hosts on which nothing is wrong."""
        bad = {finding.host for finding in self.wrong}
        return sum(host.slots for host in self.hosts if host.name not in bad)


def job_problems(job: Job, hosts: list[str]) -> list[str]:
    """What keeps a job from running on other hosts, whatever these are like.

    Args:
        job: The job.
        hosts: The names of its hosts that are not this machine.
    """
    if not hosts:
        return []
    problems = []
    named = ", ".join(hosts[:3]) + (", …" if len(hosts) > 3 else "")
    if job.train.checkpoint.directory is None:
        problems.append(
            f"train.checkpoint.directory: there is none, so checkpoints would lie on one of the hosts ({named}), and be"
            " lost with it; name a directory that all hosts share, or s3://BUCKET/FOLDER"
        )
    store = resolve_store(job.tracking)
    if store.uri.startswith("sqlite:"):
        problems.append(
            f"tracking.uri: {store.shown} is a file of this machine, and worker 0 records from one of the hosts"
            f" ({named}); name an MLflow server that they reach, http://HOST:PORT"
        )
    return problems


def probe_request(job: Job, probe: str | None = None, *, thorough: bool) -> dict[str, Any]:
    """What a host's agent is asked to look at.

    Args:
        job: The job.
        probe: The name of a file that lies in the checkpoints' directory here.
        thorough: Whether to look at dataset and checkpoints too, which takes a second more.
    """
    checkpoints = job.train.checkpoint.directory
    request: dict[str, Any] = {"do": "look", "environment": portable_variables()}
    if thorough:
        request["dataset"] = job.data.output
        if checkpoints is not None and not is_uri(checkpoints):
            request |= {"checkpoints": checkpoints, "probe": probe}
    return request


def evaluate_probe(
    job: Job, host: str, seen: dict[str, Any], digest: str | None, asked_s: float, answered_s: float
) -> list[HostCheck]:
    """What an agent saw, compared with what it has to be.

    Args:
        job: The job.
        host: The host's name.
        seen: What its agent answered.
        digest: The digest of the dataset, as it is here; None: there is none yet.
        asked_s: When it was asked, by the clock here.
        answered_s: When the answer was there.
    """
    return [
        _versions(host, seen["versions"]),
        _clock(host, seen["time_s"], asked_s, answered_s),
        _disk(job, host, seen),
        _address(host, seen),
        *_dataset(job, host, seen.get("dataset"), digest),
        *_checkpoints(job, host, seen.get("checkpoints")),
    ]


def _versions(host: str, there: dict[str, str | None]) -> HostCheck:
    here = versions()
    pairs = [("python", _minor(there["python"]), _minor(here["python"]))]
    pairs += [(name, _public(there.get(name)), _public(here[name])) for name in _SAME]
    differing = [(name, theirs, ours) for name, theirs, ours in pairs if theirs != ours]
    if not differing:
        return HostCheck(host, "versions", True, f"Python {there['python']}, torch {there['torch']}")
    shown = ", ".join(f"{name} {theirs or 'missing'}, here {ours}" for name, theirs, ours in differing)
    remedy = "all machines of a gang need the same versions: install the same requirements.lock there"
    return HostCheck(host, "versions", False, shown, remedy)


def _minor(text: str | None) -> str | None:
    return None if text is None else ".".join(text.split(".")[:2])


def _public(text: str | None) -> str | None:
    """Without what says for which graphics card it was built: a launcher may have none."""
    return None if text is None else text.partition("+")[0]


def _clock(host: str, there_s: float, asked_s: float, answered_s: float) -> HostCheck:
    skew_s = max(asked_s - there_s, there_s - answered_s, 0.0)
    if skew_s <= _MAX_SKEW_S:
        return HostCheck(host, "clock", True, f"right to {max(skew_s, answered_s - asked_s):.1f} s")
    way = "behind" if there_s < asked_s else "ahead of"
    remedy = f"at most {_MAX_SKEW_S:.0f} s are allowed: let an NTP service set the clocks (`timedatectl set-ntp true`)"
    return HostCheck(host, "clock", False, f"its clock is {skew_s:.0f} s {way} this machine's", remedy)


def _disk(job: Job, host: str, seen: dict[str, Any]) -> HostCheck:
    least_gb, free_gb, place = job.backend.hosts.min_free_gb, seen["free_gb"], seen["home"]
    if not seen["writable"]:
        remedy = "mend its permissions, or name another place in backend.hosts.home"
        return HostCheck(host, "disk", False, f"{place} cannot be written", remedy)
    found = f"{free_gb:,.1f} GB free in {place}"
    if free_gb >= least_gb:
        return HostCheck(host, "disk", True, found)
    remedy = (
        f"at least {least_gb:g} GB are needed (backend.hosts.min_free_gb): free some space there, or name another place"
        " in backend.hosts.home"
    )
    return HostCheck(host, "disk", False, found, remedy)


def _address(host: str, seen: dict[str, Any]) -> HostCheck:
    address = seen["address"] or "none"
    if ":" not in address:
        return HostCheck(host, "address", True, address)
    remedy = "Horovod meets by IPv4: give the host's IPv4 address in resources.hosts"
    return HostCheck(host, "address", False, f"SSH reaches it by IPv6 ({address})", remedy)


def _dataset(job: Job, host: str, seen: dict[str, str] | None, digest: str | None) -> Iterator[HostCheck]:
    if seen is None or (digest is None and "problem" in seen):
        return  # it is not made yet, here or there
    place = job.data.output
    remedy = "data.output has to be a directory that all hosts share, or s3://BUCKET/FOLDER"
    if "problem" in seen:
        yield HostCheck(host, "dataset", False, f"it does not see the dataset {place} ({seen['problem']})", remedy)
    elif digest is not None and seen["digest"] != digest:
        found = f"the dataset {place} is another one there: its digest is {seen['digest'][:12]}, here {digest[:12]}"
        yield HostCheck(host, "dataset", False, found, remedy)
    else:
        yield HostCheck(host, "dataset", True, f"{place}, digest {seen['digest'][:12]}")


def _checkpoints(job: Job, host: str, seen: dict[str, Any] | None) -> Iterator[HostCheck]:
    if seen is None:
        return
    place = job.train.checkpoint.directory
    remedy = "train.checkpoint.directory has to be one that all hosts share and may write to, or s3://BUCKET/FOLDER"
    if "problem" in seen:
        yield HostCheck(host, "checkpoints", False, f"{place} cannot be written ({seen['problem']})", remedy)
    elif not seen["shared"]:
        yield HostCheck(host, "checkpoints", False, f"{place} is another directory there than here", remedy)
    else:
        yield HostCheck(host, "checkpoints", True, f"{place} is shared")


@contextmanager
def marker_file(job: Job) -> Iterator[str | None]:
    """A file in the checkpoints' directory for the length of the block, by which hosts tell that they see the same
    directory; None: there is none that this machine can write to."""
    place = job.train.checkpoint.directory
    if place is None or is_uri(place):
        yield None
        return
    probe = Path(place) / f".probe-{uuid.uuid4().hex}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError:  # this machine need not see it, the hosts have to
        yield None
        return
    try:
        yield probe.name
    finally:
        probe.unlink(missing_ok=True)


def check_hosts(job: Job) -> PreflightReport:
    """Look at all hosts of a job at once.

    Raises:
        SpecError: The job names no hosts, or their list cannot be read.
    """
    if job.resources.hosts is None:
        raise SpecError("resources.hosts: there are none; write a list of NAME:SLOTS, or one of `file` and `script`")
    hosts, problem = list_hosts(job.resources.hosts)
    if problem is not None:
        return PreflightReport((HostCheck(None, "job", False, f"resources.hosts: {problem}", "mend the script"),))
    away = [host.name for host in hosts if not is_local(host.name)]
    findings = [_trouble(None, "job", problem) for problem in job_problems(job, away)]
    findings += _room(job, hosts)
    try:
        digest = read_manifest(job.data.output).digest
    except FarandoleError:
        digest = None  # the job will make it
    with marker_file(job) as probe, ThreadPoolExecutor(_AT_ONCE) as pool:
        seen = list(pool.map(lambda host: _look(job, host, digest, probe), away))
    findings += [finding for found in seen for finding in found]
    bad = {finding.host for finding in findings if not finding.ok}
    findings += _ports(job, [host for host in away if host not in bad])
    return PreflightReport(tuple(findings), tuple(hosts))


def _trouble(host: str | None, name: str, text: str) -> HostCheck:
    found, _, remedy = text.partition("; ")
    return HostCheck(host, name, False, found, remedy)


def _room(job: Job, hosts: list[Host]) -> Iterator[HostCheck]:
    slots, least = sum(host.slots for host in hosts), job.resources.effective_min_workers
    if slots < least:
        remedy = f"at least {least} are needed (resources.min_workers, or workers): list more, or ask for fewer workers"
        yield HostCheck(None, "job", False, f"resources.hosts: room for {slots} workers", remedy)


def _look(job: Job, host: str, digest: str | None, probe: str | None) -> list[HostCheck]:
    asked_s = time.time()
    try:
        seen = ask_agent(job.backend.hosts, host, probe_request(job, probe, thorough=True))
    except HostUnavailableError as trouble:
        return [_trouble(host, "ssh", str(trouble))]
    return [HostCheck(host, "ssh", True, "answers"), *evaluate_probe(job, host, seen, digest, asked_s, time.time())]


def _ports(job: Job, hosts: list[str]) -> list[HostCheck]:
    """Every host listens on a free port, and every other reaches for it; so does every host for this machine."""
    ssh = job.backend.hosts
    with _listening(job, hosts) as targets, open_port() as server, ThreadPoolExecutor(_AT_ONCE) as pool:
        port = server.getsockname()[1]

        def reach(host: str) -> HostCheck:
            others: dict[str, Any] = {name: target for name, target in targets.items() if name != host}
            others["this machine"] = [ssh.address, port]
            try:
                request = {"do": "connect", "targets": others, "timeout_s": _REACH_S}
                problems = ask_agent(ssh, host, request)["problems"]
            except HostUnavailableError as trouble:
                return _trouble(host, "ports", str(trouble))
            if not problems:
                return HostCheck(host, "ports", True, f"reaches {len(others)} others")
            shown = ", ".join(f"{name} ({problem})" for name, problem in problems.items())
            remedy = (
                "workers listen on ports that the system chooses: let the hosts and this machine reach each other's"
                " ports from 1024 on, or name a network where they do in backend.hosts.address and interface"
            )
            return HostCheck(host, "ports", False, f"it does not reach {shown}", remedy)

        return list(pool.map(reach, hosts))


@contextmanager
def _listening(job: Job, hosts: list[str]) -> Iterator[dict[str, list[Any]]]:
    """An open port on each host for the length of the block: name to address and port."""
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
                _, data = parse_line(line.decode(errors="replace"))
                if data is not None and data["event"] == "listening":
                    targets[host] = [data["address"], data["port"]]
                    break
        yield targets
    finally:
        for process in processes:
            process.kill()
            process.communicate()
