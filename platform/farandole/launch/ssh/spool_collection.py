"""Brings home what workers on other hosts have recorded and MLflow has not taken, so that `farandole sync` finds it."""

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
from farandole.launch.agent.send_spools import ACKNOWLEDGED
from farandole.launch.ssh.client import agent_command
from farandole.process.messages import parse_line
from farandole.spec import Ssh
from farandole.tracking.run_link import spool_directory

_AT_ONCE = 64
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class MovedSpool:
    """A spool that came home.

    Args:
        there: Where it was, on its host.
        here: Where it is now.
    """

    there: str
    here: str


def collect_spools(ssh: Ssh, hosts: Iterable[str], directory: Path, on_event: EventHandler) -> list[MovedSpool]:
    """Fetch the spools of a job from its hosts.

    Args:
        ssh: How hosts are reached.
        hosts: Their names. One that does not answer keeps its records; a warning says so.
        directory: The job's directory here.
        on_event: Is warned.
    """

    def from_host(host: str) -> tuple[list[MovedSpool], str | None]:
        try:
            return list(_collect(ssh, host, directory)), None
        except (OSError, ValueError, tarfile.TarError, KeyError) as error:
            return [], f"{host}: what MLflow has not taken from there, if anything, stays there ({error})"

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(from_host, sorted(hosts)))
    for _, problem in found:
        if problem is not None:
            on_event(Message(problem, level="warning"))
    return [moved for spools, _ in found for moved in spools]


def _collect(ssh: Ssh, host: str, directory: Path) -> Iterator[MovedSpool]:
    with _asked(agent_command(ssh, host), {"do": "collect", "job": directory.name}) as (said, heard):
        there, names = _announced(said)
        if not names:
            return
        arrived = spool_directory(directory, f".{uuid.uuid4().hex}.tmp")
        try:
            arrived.mkdir(parents=True)
            with tarfile.open(fileobj=said, mode="r|") as tar:
                for entry in tar:
                    _extract(tar, entry, arrived)
            for name in names:
                here = spool_directory(directory, name)
                if here.exists():
                    here = spool_directory(directory, f"{name}-{host}-{uuid.uuid4().hex[:8]}")
                (arrived / name).rename(here)
                yield MovedSpool(str(spool_directory(Path(there), name)), str(here))
        finally:
            shutil.rmtree(arrived, ignore_errors=True)
        heard.write(ACKNOWLEDGED)
        heard.flush()


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, directory: Path) -> None:
    """Regular files only; Python's own way to refuse others is not in all its versions."""
    path = directory / entry.name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ValueError(f"{entry.name} would lie elsewhere")
    content = tar.extractfile(entry)
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


@contextmanager
def _asked(command: list[str], request: dict[str, str]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """An agent that was asked something, for the length of the block: its output and its input."""
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
        process.wait(_PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _announced(said: IO[bytes]) -> tuple[str, list[str]]:
    """Where the spools are on the host, and their names."""
    for line in said:
        _, data = parse_line(line.decode(errors="replace"))
        if data is not None and data["event"] == "collecting":
            return data["directory"], data["spools"]
    raise OSError("it does not answer")
