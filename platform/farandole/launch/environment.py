"""Which variables workers get, and on which way: Horovod's launcher would write them all on their command lines."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PASSED_OPENLY = re.compile(
    r"^(PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|LD_LIBRARY_PATH|PYTHONPATH|HOROVOD_\w+|NCCL_\w+)$"
)
"""Variables that everybody on the machine may see; all others go by file."""
_STAYS_HERE = re.compile(
    r"^(PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|TMPDIR|TEMP|TMP|HOSTNAME|TERM|SHLVL|_|DISPLAY|MAIL|VIRTUAL_ENV|JAVA_HOME"
    r"|LD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|FARANDOLE_HOME|FARANDOLE_CACHE_DIR|SSH_\w+|XDG_\w+|DBUS_\w+|SYSTEMD_\w+"
    r"|KUBERNETES_\w+|CUDA_\w+|NVIDIA_\w+|PYTEST_\w+|COV_\w+)$"
)
"""Variables that say something about this machine or this session, and would be wrong on another."""


def public_variables() -> dict[str, str]:
    """Those of this process's variables that may stand on a command line."""
    return {name: value for name, value in os.environ.items() if _PASSED_OPENLY.match(name)}


def portable_variables() -> dict[str, str]:
    """Those of this process's variables that go to other hosts, secrets among them."""
    return {name: value for name, value in os.environ.items() if not _STAYS_HERE.match(name)}


@contextmanager
def private_variables_file(path: Path, threads: int) -> Iterator[Path]:
    """All the others, in a file that only its user may read, and that goes when the block ends.

    Args:
        path: The file.
        threads: Threads of each worker.
    """
    variables = {name: value for name, value in os.environ.items() if not _PASSED_OPENLY.match(name)}
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({**variables, "OMP_NUM_THREADS": str(threads)}, file)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
