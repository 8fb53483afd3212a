"""Collection of spools: fetch the records on other hosts that MLflow has not received, for `farandole sync`."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from farandole.events import EventHandler, Message
from farandole.launch.agent.messages import SpoolsFound
from farandole.launch.agent.send_spools import ACKNOWLEDGED
from farandole.launch.ssh.client import agent_command, parse_agent_line
from farandole.spec import Ssh
from farandole.tracking.run_link import spool_directory

_MAX_CONCURRENT_HOSTS = 64
_EXIT_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class MovedSpool:
    """A spool that was fetched from another host.

    Args:
        source: Its path on that host.
        target: Its path on this machine.
    """

    source: str
    target: str


def collect_spools(ssh: Ssh, hosts: Iterable[str], directory: Path, on_event: EventHandler) -> list[MovedSpool]:
    """Fetch the spools of a job from its hosts.

    Args:
        ssh: How hosts are reached.
        hosts: Names of the hosts. A host that does not answer keeps its spools, which causes a warning.
        directory: The job's directory on this machine.
        on_event: Receives the warnings.
    """

    def collect_from(host: str) -> tuple[list[MovedSpool], str | None]:
        try:
            return list(_collect(ssh, host, directory)), None
        except (OSError, ValueError, tarfile.TarError, subprocess.TimeoutExpired) as error:
            return [], f"{host}: records that MLflow has not received, if any, stay on this host ({error})"

    with ThreadPoolExecutor(_MAX_CONCURRENT_HOSTS) as pool:
        by_host = list(pool.map(collect_from, sorted(hosts)))
    for _, problem in by_host:
        if problem is not None:
            on_event(Message(problem, level="warning"))
    return [moved for spools, _ in by_host for moved in spools]


def _collect(ssh: Ssh, host: str, directory: Path) -> Iterator[MovedSpool]:
    with _agent(agent_command(ssh, host), {"do": "send_spools", "job": directory.name}) as (stdout, stdin):
        found = _read_announcement(stdout)
        if not found.spools:
            return
        received = spool_directory(directory, f".{uuid.uuid4().hex}.tmp")
        try:
            received.mkdir(parents=True)
            with tarfile.open(fileobj=stdout, mode="r|") as tar:
                for entry in tar:
                    _extract(tar, entry, received)
            for name in found.spools:
                target = spool_directory(directory, name)
                if target.exists():
                    target = spool_directory(directory, f"{name}-{host}-{uuid.uuid4().hex[:8]}")
                (received / name).rename(target)
                yield MovedSpool(str(spool_directory(Path(found.directory), name)), str(target))
        finally:
            shutil.rmtree(received, ignore_errors=True)
        stdin.write(ACKNOWLEDGED)
        stdin.flush()


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, directory: Path) -> None:
    """Extract a regular file or a directory; tarfile's own filters do not exist in all supported versions of Python."""
    path = directory / entry.name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ValueError(f"{entry.name} is outside of the archive's directory")
    content = tar.extractfile(entry)
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


@contextmanager
def _agent(command: list[str], request: dict[str, str]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Run an agent with a request until the block ends, and yield its standard output and standard input."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        yield process.stdout, process.stdin
        process.stdin.close()
        process.wait(_EXIT_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _read_announcement(stdout: IO[bytes]) -> SpoolsFound:
    for line in stdout:
        message = parse_agent_line(line.decode(errors="replace"))
        if isinstance(message, SpoolsFound):
            return message
    raise OSError("it does not answer")
