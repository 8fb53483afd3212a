"""The environment variables with which executors write to an object store.

Spark's Python workers on this machine have the variables that the JVM was started with, which may be older than those
of a notebook now. They get ours by a file that only this user may read: secrets are neither in Spark's settings nor in
the tasks that it sends about. Executors on other machines have no such file; they use what their own machines give
them (a role, or variables set by whoever runs the cluster).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farandole.storage import Location

_NEEDED = re.compile(r"^(AWS_|GOOGLE_|AZURE_|SSL_CERT_|HTTPS?_PROXY$|NO_PROXY$|https?_proxy$|no_proxy$)")


@contextmanager
def environment_file(place: Location) -> Iterator[Path | None]:
    """This process's variables that object stores look at, in a file of mode 0600; None where `place` is local."""
    if isinstance(place, Path):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="farandole-environment-") as directory:
        path = Path(directory) / "environment.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({name: value for name, value in os.environ.items() if _NEEDED.match(name)}, file)
        yield path


def load_environment(path: Path | None) -> None:
    """Take over the variables of such a file, where there is one on this machine."""
    if path is None or not path.exists():
        return
    variables = json.loads(path.read_text(encoding="utf-8"))
    for name in [name for name in os.environ if _NEEDED.match(name) and name not in variables]:
        del os.environ[name]
    os.environ.update(variables)
