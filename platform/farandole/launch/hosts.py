"""Hosts of a job: which ones are listed, which of them answer, and how many workers each of them runs."""

from __future__ import annotations

import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from farandole.errors import SpecError
from farandole.launch.ssh.client import unreachable_reason
from farandole.spec import Hosts, Ssh, parse_host

_SCRIPT_TIMEOUT_S = 30.0
_MAX_CONCURRENT_CHECKS = 64
_POLL_S = 0.25
_DEFAULT_SSH = Ssh()


@dataclass(frozen=True)
class Host:
    """A machine that can run workers.

    Args:
        name: The name by which SSH reaches it.
        slots: How many workers it can run.
    """

    name: str
    slots: int

    def __str__(self) -> str:
        return f"{self.name}:{self.slots}"


@dataclass(frozen=True)
class HostSurvey:
    """State of all listed hosts.

    Args:
        answering: Hosts that can be used, in the order in which they are listed.
        silent: Hosts that cannot be used, each with the reason.
        problem: Why the list itself is not available.
    """

    answering: tuple[Host, ...]
    silent: tuple[tuple[Host, str], ...] = ()
    problem: str | None = None

    @property
    def slots(self) -> int:
        """Number of workers that the answering hosts can run."""
        return sum(host.slots for host in self.answering)

    def without(self, unready: dict[str, str]) -> HostSurvey:
        """Return this survey with some hosts moved to the silent ones.

        Args:
            unready: Reason by host name.
        """
        return HostSurvey(
            tuple(host for host in self.answering if host.name not in unready),
            self.silent + tuple((host, unready[host.name]) for host in self.answering if host.name in unready),
            self.problem,
        )

    def __str__(self) -> str:
        answering = ", ".join(map(str, self.answering)) or "none"
        silent = "".join(f"; {host.name} does not answer ({reason})" for host, reason in self.silent)
        return f"answering: {answering}{silent}" + (f"; {self.problem}" if self.problem else "")


def survey_hosts(hosts: Hosts | None, workers: int, ssh: Ssh = _DEFAULT_SSH) -> HostSurvey:
    """List the hosts and check which of them answer.

    Args:
        hosts: Where the hosts are listed; None: only this machine, with a slot for every worker.
        workers: Number of workers that are wanted.
        ssh: How hosts are reached.

    Raises:
        SpecError: The list cannot be used at all: a missing script or file, or a malformed line.
    """
    if hosts is None:
        return HostSurvey((Host("localhost", workers),))
    listed, problem = list_hosts(hosts)
    if problem is not None:
        return HostSurvey((), problem=problem)
    with ThreadPoolExecutor(min(_MAX_CONCURRENT_CHECKS, max(len(listed), 1))) as pool:
        reasons = list(
            pool.map(lambda host: None if is_local(host.name) else unreachable_reason(ssh, host.name), listed)
        )
    return HostSurvey(
        tuple(host for host, reason in zip(listed, reasons, strict=True) if reason is None),
        tuple((host, reason) for host, reason in zip(listed, reasons, strict=True) if reason is not None),
    )


def allocate(hosts: tuple[Host, ...], workers: int) -> tuple[Host, ...]:
    """Assign workers to the first hosts that have free slots.

    The slots of the result add up to the number of workers: Horovod's launcher starts a worker on every slot that it
    is given, whatever number of workers is requested.
    """
    allocated, remaining = [], workers
    for host in hosts:
        taken = min(host.slots, remaining)
        if taken:
            allocated.append(Host(host.name, taken))
        remaining -= taken
    return tuple(allocated)


def list_hosts(hosts: Hosts) -> tuple[list[Host], str | None]:
    """Return the listed hosts, and the reason if the list is not available at the moment.

    Raises:
        SpecError: The list cannot be used at all.
    """
    try:
        return _parse_hosts(hosts), None
    except _ListUnavailableError as problem:
        return [], str(problem)


def read_hosts_file(hosts: Hosts | None) -> str | None:
    """Return the text of the hosts file; None if hosts are not listed in a file, or it cannot be read now."""
    try:
        return Path(hosts.file).read_text(encoding="utf-8") if hosts is not None and hosts.file is not None else None
    except (OSError, UnicodeDecodeError):
        return None


def wait_for_hosts_change(hosts: Hosts | None, known: str | None, seconds: float) -> None:
    """Wait until the hosts file differs from the known text, at most for the given time.

    The process that writes the file learns of a new host before anyone asks for it.
    """
    deadline_s = time.monotonic() + seconds
    while (remaining_s := deadline_s - time.monotonic()) > 0 and read_hosts_file(hosts) == known:
        time.sleep(min(remaining_s, _POLL_S))


class _ListUnavailableError(Exception):
    """The list of hosts is not available now, but may be later."""


def _parse_hosts(hosts: Hosts) -> list[Host]:
    """Return the listed hosts; the slots of a host that is listed twice are added up.

    Raises:
        _ListUnavailableError: The script failed; it may succeed later.
        SpecError: A line is not a host.
    """
    if hosts.fixed is not None:
        source, lines = "resources.hosts", list(hosts.fixed)
    elif hosts.file is not None:
        source, lines = hosts.file, _read_file(hosts.file)
    else:
        assert hosts.script is not None
        source, lines = hosts.script, _run_script(hosts.script)
    slots: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip().replace(" slots=", ":")
        if not text:
            continue
        try:
            name, count = parse_host(text)
        except ValueError as error:
            raise SpecError(f"resources.hosts: {source}, line {number}: {error}") from error
        slots[name] = slots.get(name, 0) + count
    return [Host(name, count) for name, count in slots.items()]


def _read_file(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"resources.hosts.file: {path}: cannot be read ({error}); write one NAME:SLOTS per line"
        ) from error


def _run_script(path: str) -> list[str]:
    try:
        done = subprocess.run(
            [path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SCRIPT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise _ListUnavailableError(f"{path} printed no hosts within {_SCRIPT_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise SpecError(
            f"resources.hosts.script: {path}: {error.strerror or error}; give an executable program that prints one"
            " NAME:SLOTS per line"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise _ListUnavailableError(f"{path} ended with exit code {done.returncode}: {last}")
    return done.stdout.splitlines()


def is_local(name: str) -> bool:
    """Return whether a host name denotes this machine."""
    if name in ("localhost", socket.gethostname()):
        return True
    try:
        address = socket.gethostbyname(name)
    except OSError:
        return False
    local = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return address.startswith("127.") or address in local
