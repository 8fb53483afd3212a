"""Store of job folders that other machines sent, one directory for each content."""

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

_MAX_FOLDERS = 20
_MIN_AGE_S = 86_400.0
"""A folder that was used within a day may belong to a job that is running."""


def code_directory(digest: str) -> Path:
    """Return the directory of the folder with a digest."""
    return home() / "code" / digest


def receive_code(request: dict[str, Any]) -> dict[str, Any]:
    """Unpack the archive that follows the request.

    Args:
        request: `digest` of the archive, and its `size_bytes`.

    Raises:
        UnavailableError: The archive is damaged, or cannot be written to disk.
    """
    data = sys.stdin.buffer.read(request["size_bytes"])
    directory = unpack(data, request["digest"], code_directory(request["digest"]))
    _delete_old(directory.parent, directory.name)
    return {"directory": str(directory)}


def use_code(digest: str) -> Path:
    """Return the folder with a digest and mark it as used.

    Raises:
        UnavailableError: The folder does not exist.
    """
    directory = code_directory(digest)
    if not directory.is_dir():
        raise UnavailableError(f"{directory}: the job's folder does not exist any more; retry the job")
    os.utime(directory)
    return directory


def _delete_old(parent: Path, kept: str) -> None:
    """Delete all but the newest folders."""
    folders = sorted(parent.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in folders[_MAX_FOLDERS:]:
        if path.name != kept and time.time() - path.stat().st_mtime > _MIN_AGE_S:
            shutil.rmtree(path, ignore_errors=True)
