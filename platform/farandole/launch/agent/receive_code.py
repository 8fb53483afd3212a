"""Takes a job's folder, once for each content."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from farandole.errors import UnavailableError
from farandole.launch.code_archive import unpack
from farandole.storage import home

_KEPT = 20
_YOUNG_S = 86_400.0
"""Folders used within a day may belong to a job that runs."""


def code_directory(digest: str) -> Path:
    """Where the folder of a digest lies on this machine."""
    return home() / "code" / digest


def receive_code(request: dict[str, Any]) -> dict[str, Any]:
    """Unpack the package that follows the request: `digest`, and `size_bytes` of it.

    Raises:
        EnvironmentLacking: It arrived damaged, or the disk does not take it.
    """
    data = sys.stdin.buffer.read(request["size_bytes"])
    directory = unpack(data, request["digest"], code_directory(request["digest"]))
    _forget_old(directory.parent, directory.name)
    return {"directory": str(directory)}


def use_code(digest: str) -> Path:
    """The folder of a digest, marked as used.

    Raises:
        EnvironmentLacking: It is not there.
    """
    directory = code_directory(digest)
    if not directory.is_dir():
        raise UnavailableError(f"{directory}: the job's folder is not here any more; retry the job")
    os.utime(directory)
    return directory


def _forget_old(place: Path, kept: str) -> None:
    """Keep the newest folders only."""
    found = sorted(place.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[_KEPT:]:
        if path.name != kept and time.time() - path.stat().st_mtime > _YOUNG_S:
            shutil.rmtree(path, ignore_errors=True)
