"""Looks around on a host before a job starts: versions, disk, clock, dataset, addresses."""

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

PACKAGES = ("farandole", "torch", "horovod")
"""What has to have the same version on all machines of a gang."""


def versions() -> dict[str, str | None]:
    """The versions of Python and of what a gang needs, and a digest of Farandole's own sources, which may differ under
    one version; None: not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "sources": _sources()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _sources() -> str:
    package = Path(__file__).resolve().parents[2]
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return code.hexdigest()[:12]


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """What a host has.

    Args:
        request: `code`: the digest of the job's folder. `mark`: kill what an earlier attempt left here under it.
            `dataset`: a dataset directory, to tell its digest. `checkpoints`: a directory, to tell whether it can be
            written. `probe`: the name of a file in it that the launcher has made. Each may be missing.
    """
    if request.get("mark") is not None:
        kill_orphans(request["mark"])
    place = home()
    place.mkdir(parents=True, exist_ok=True)
    seen: dict[str, Any] = {
        "versions": versions(),
        "time_s": time.time(),
        "home": str(place),
        "free_gb": shutil.disk_usage(place).free / 1e9,
        "writable": os.access(place, os.W_OK),
        "cores": len(os.sched_getaffinity(0)),
        "address": own_address(),
        "launcher": launcher_address(),
    }
    if request.get("code") is not None:
        seen["has_code"] = code_directory(request["code"]).is_dir()
    if request.get("dataset") is not None:
        seen["dataset"] = _dataset(request["dataset"])
    if request.get("checkpoints") is not None:
        seen["checkpoints"] = _checkpoints(request["checkpoints"], request.get("probe"))
    return seen


def _dataset(place: str) -> dict[str, str]:
    from farandole.shards import read_manifest  # pyarrow takes its time

    try:
        return {"digest": read_manifest(place).digest}
    except FarandoleError as error:
        return {"problem": str(error)}


def _checkpoints(place: str, probe: str | None) -> dict[str, Any]:
    """Whether a directory is the one that the launcher sees, and can be written."""
    directory = Path(place)
    try:
        shared = probe is None or (directory / probe).exists()
        with tempfile.TemporaryFile(dir=directory):
            return {"shared": shared}
    except OSError as error:
        return {"problem": error.strerror or str(error)}
