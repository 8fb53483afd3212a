"""Environment variables of workers: which of them travel, and by which way.

Horovod's launcher writes every variable that it passes to a worker on a command line, which all users of the machine
can read. Only harmless variables go that way; all others go through a private file or over SSH.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farandole.process.atomic import write_private_json

_PUBLIC = re.compile(
    r"^(PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|LD_LIBRARY_PATH|PYTHONPATH|HOROVOD_\w+|NCCL_\w+)$"
)
"""Variables that may appear on a command line; all others go through a private file."""
_LOCAL = re.compile(
    r"^(PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|TMPDIR|TEMP|TMP|HOSTNAME|TERM|SHLVL|_|DISPLAY|MAIL|VIRTUAL_ENV|JAVA_HOME"
    r"|LD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|FARANDOLE_HOME|FARANDOLE_CACHE_DIR|SSH_\w+|XDG_\w+|DBUS_\w+|SYSTEMD_\w+"
    r"|KUBERNETES_\w+|CUDA_\w+|NVIDIA_\w+|PYTEST_\w+|COV_\w+)$"
)
"""Variables that describe this machine or this session, and would be wrong on another machine."""


def public_variables() -> dict[str, str]:
    """Return the variables of this process that may appear on a command line."""
    return {name: value for name, value in os.environ.items() if _PUBLIC.match(name)}


def portable_variables() -> dict[str, str]:
    """Return the variables of this process that are passed to other hosts; they include secrets."""
    return {name: value for name, value in os.environ.items() if not _LOCAL.match(name)}


@contextmanager
def private_variables_file(path: Path, num_threads: int) -> Iterator[Path]:
    """Write all variables that are not public to a private file, which exists until the block ends.

    Args:
        path: The file.
        num_threads: Threads of each worker.
    """
    variables = {name: value for name, value in os.environ.items() if not _PUBLIC.match(name)}
    with private_file(path, {**variables, "OMP_NUM_THREADS": str(num_threads)}):
        yield path


@contextmanager
def private_file(path: Path, document: Mapping[str, Any]) -> Iterator[Path]:
    """Write a JSON document to a file that only this user can read, and delete the file when the block ends.

    Args:
        path: The file; an existing one is replaced.
        document: The content.
    """
    try:
        write_private_json(path, document)
        yield path
    finally:
        path.unlink(missing_ok=True)
