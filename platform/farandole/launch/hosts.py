"""Which hosts there are, which of them answer, and how many workers each gets."""

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

_SCRIPT_S = 30.0
_PROBES_AT_ONCE = 64
_LOOK_EVERY_S = 0.25
_BY_DEFAULT = Ssh()


@dataclass(frozen=True)
class Host:
    """A machine.

    Args:
        name: By which SSH reaches it.
        slots: How many workers it has room for.
    """

    name: str
    slots: int

    def __str__(self) -> str:
        return f"{self.name}:{self.slots}"


@dataclass(frozen=True)
class HostSurvey:
    """What a look at all hosts found.

    Args:
        answering: Hosts that can be used, in the order in which they are listed.
        silent: Hosts that cannot, each with the reason.
        problem: Why the list itself could not be had.
    """

    answering: tuple[Host, ...]
    silent: tuple[tuple[Host, str], ...] = ()
    problem: str | None = None

    @property
    def slots(self) -> int:
        """Room for so many workers."""
        return sum(host.slots for host in self.answering)

    def without(self, unready: dict[str, str]) -> HostSurvey:
        """The same, with some hosts among the silent.

        Args:
            unready: Name to reason.
        """
        return HostSurvey(
            tuple(host for host in self.answering if host.name not in unready),
            self.silent + tuple((host, unready[host.name]) for host in self.answering if host.name in unready),
            self.problem,
        )

    def __str__(self) -> str:
        found = ", ".join(map(str, self.answering)) or "none"
        silent = "".join(f"; {host.name} does not ({reason})" for host, reason in self.silent)
        return f"answering: {found}{silent}" + (f"; {self.problem}" if self.problem else "")


def survey_hosts(hosts: Hosts | None, workers: int, ssh: Ssh = _BY_DEFAULT) -> HostSurvey:
    """Ask the source for its hosts, and each host whether it answers.

    Args:
        hosts: The source; None: this machine, with room for all workers.
        workers: How many are wanted.
        ssh: How they are reached.

    Raises:
        SpecError: The source cannot be used at all: no such script, no such file, a line that is no host.
    """
    if hosts is None:
        return HostSurvey((Host("localhost", workers),))
    listed, problem = list_hosts(hosts)
    if problem is not None:
        return HostSurvey((), problem=problem)
    with ThreadPoolExecutor(min(_PROBES_AT_ONCE, max(len(listed), 1))) as pool:
        reasons = list(
            pool.map(lambda host: None if is_local(host.name) else unreachable_reason(ssh, host.name), listed)
        )
    return HostSurvey(
        tuple(host for host, reason in zip(listed, reasons, strict=True) if reason is None),
        tuple((host, reason) for host, reason in zip(listed, reasons, strict=True) if reason is not None),
    )


def allocate(hosts: tuple[Host, ...], workers: int) -> tuple[Host, ...]:
    """So many workers on the first hosts that have room for them.

    The slots of the result are the workers exactly: Horovod's launcher starts a worker on every slot that it is
    given, however many were asked for.
    """
    chosen, left = [], workers
    for host in hosts:
        taken = min(host.slots, left)
        if taken:
            chosen.append(Host(host.name, taken))
        left -= taken
    return tuple(chosen)


def list_hosts(hosts: Hosts) -> tuple[list[Host], str | None]:
    """The source's hosts, and why it has none now.

    Raises:
        SpecError: The source cannot be used at all.
    """
    try:
        return _listed(hosts), None
    except _NoList as problem:
        return [], str(problem)


def read_hosts_file(hosts: Hosts | None) -> str | None:
    """What the file with the hosts says; None: they are listed otherwise, or it cannot be read now."""
    try:
        return Path(hosts.file).read_text(encoding="utf-8") if hosts is not None and hosts.file is not None else None
    except (OSError, UnicodeDecodeError):
        return None


def wait_for_hosts_change(hosts: Hosts | None, known: str | None, seconds: float) -> None:
    """Wait so long, or until the file with the hosts says something else than is known: whoever writes it hears of a
    host before anybody asks."""
    due_s = time.monotonic() + seconds
    while (left_s := due_s - time.monotonic()) > 0 and read_hosts_file(hosts) == known:
        time.sleep(min(left_s, _LOOK_EVERY_S))


class _NoList(Exception):
    """The source has no list now; it may have one later."""


def _listed(hosts: Hosts) -> list[Host]:
    """The source's hosts; one that is listed twice has the slots of both lines.

    Raises:
        _NoList: The script failed; it may do better next time.
        SpecError: What it gave is no list of hosts.
    """
    if hosts.fixed is not None:
        place, lines = "resources.hosts", list(hosts.fixed)
    elif hosts.file is not None:
        place, lines = hosts.file, _file_lines(hosts.file)
    else:
        assert hosts.script is not None
        place, lines = hosts.script, _script_lines(hosts.script)
    slots: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip().replace(" slots=", ":")
        if not text:
            continue
        try:
            name, count = parse_host(text)
        except ValueError as error:
            raise SpecError(f"resources.hosts: {place}, line {number}: {error}") from error
        slots[name] = slots.get(name, 0) + count
    return [Host(name, count) for name, count in slots.items()]


def _file_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"resources.hosts.file: {path}: cannot be read ({error}); write one NAME:SLOTS a line"
        ) from error


def _script_lines(path: str) -> list[str]:
    try:
        done = subprocess.run(
            [path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SCRIPT_S,
        )
    except subprocess.TimeoutExpired:
        raise _NoList(f"{path} printed no hosts within {_SCRIPT_S:.0f} s") from None
    except OSError as error:
        raise SpecError(
            f"resources.hosts.script: {path}: {error.strerror or error}; give an executable program that prints one"
            " NAME:SLOTS a line"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise _NoList(f"{path} ended with exit code {done.returncode}: {last}")
    return done.stdout.splitlines()


def is_local(name: str) -> bool:
    """Whether a host's name means this machine."""
    if name in ("localhost", socket.gethostname()):
        return True
    try:
        address = socket.gethostbyname(name)
    except OSError:
        return False
    ours = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return address.startswith("127.") or address in ours
