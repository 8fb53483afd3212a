"""Transport of the environment variables with which executors write to an object store.

Spark's Python workers on this machine have the variables that the JVM was started with, which may be older than those
of a notebook now. They receive the current ones in a file that only this user may read, so that secrets are neither in
Spark's settings nor in the tasks that it distributes. Executors on other machines have no such file; they use what
their machines provide: a role, or variables set by whoever operates the cluster.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farandole.process.atomic import write_private_json
from farandole.storage import Location

_NEEDED = re.compile(r"^(AWS_|GOOGLE_|AZURE_|SSL_CERT_|HTTPS?_PROXY$|NO_PROXY$|https?_proxy$|no_proxy$)")


@contextmanager
def environment_file(location: Location) -> Iterator[Path | None]:
    """Write the variables that object stores read to a file of mode 0600, for the length of the block.

    Args:
        location: The dataset directory; for a local one there is no file, and the block receives None.
    """
    if isinstance(location, Path):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="farandole-environment-") as directory:
        path = Path(directory) / "environment.json"
        write_private_json(path, {name: value for name, value in os.environ.items() if _NEEDED.match(name)})
        yield path


def load_environment(path: Path | None) -> None:
    """Set this process's variables to those of an environment file, if this machine has it."""
    if path is None or not path.exists():
        return
    variables = json.loads(path.read_text(encoding="utf-8"))
    for name in [name for name in os.environ if _NEEDED.match(name) and name not in variables]:
        del os.environ[name]
    os.environ.update(variables)
