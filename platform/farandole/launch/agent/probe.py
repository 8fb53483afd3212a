"""Probe of a host before a job starts: versions, disk, clock, dataset, checkpoints, addresses."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from farandole.errors import FarandoleError
from farandole.launch.agent.addresses import launcher_address, own_address
from farandole.launch.agent.receive_code import code_directory
from farandole.process.orphans import kill_orphans
from farandole.storage import home

_PACKAGES = ("farandole", "torch", "horovod")
"""Packages that must have the same version on all machines of a gang."""


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that a gang needs, None for missing packages.

    `sources` is a digest of Farandole's own sources, which may differ within one version.
    """
    found: dict[str, str | None] = {"python": platform.python_version(), "sources": _sources_digest()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _sources_digest() -> str:
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Return the state of this host.

    Args:
        request: All of these are optional. `code`: digest of the job's folder. `mark`: kill the processes that an
            earlier attempt left here under this mark. `dataset`: a dataset directory, whose digest is returned.
            `checkpoints`: a directory, which is checked for write access. `marker`: name of a file in it that the
            launcher has created.
    """
    if request.get("mark") is not None:
        kill_orphans(request["mark"])
    directory = home()
    directory.mkdir(parents=True, exist_ok=True)
    answer: dict[str, Any] = {
        "versions": versions(),
        "time_s": time.time(),
        "home": str(directory),
        "free_gb": shutil.disk_usage(directory).free / 1e9,
        "writable": os.access(directory, os.W_OK),
        "cores": len(os.sched_getaffinity(0)),
        "address": own_address(),
        "launcher": launcher_address(),
    }
    if request.get("code") is not None:
        answer["has_code"] = code_directory(request["code"]).is_dir()
    if request.get("dataset") is not None:
        answer["dataset"] = _probe_dataset(request["dataset"])
    if request.get("checkpoints") is not None:
        answer["checkpoints"] = _probe_checkpoints(request["checkpoints"], request.get("marker"))
    return answer


def _probe_dataset(location: str) -> dict[str, str]:
    from farandole.shards import read_manifest  # importing pyarrow takes a while

    try:
        return {"digest": read_manifest(location).digest}
    except FarandoleError as error:
        return {"problem": str(error)}


def _probe_checkpoints(path: str, marker: str | None) -> dict[str, Any]:
    """Return whether a directory is the one that the launcher sees, or why it cannot be written."""
    directory = Path(path)
    try:
        is_shared = marker is None or (directory / marker).exists()
        with tempfile.TemporaryFile(dir=directory):
            return {"shared": is_shared}
    except OSError as error:
        return {"problem": error.strerror or str(error)}
