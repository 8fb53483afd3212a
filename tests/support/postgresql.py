"""A real PostgreSQL server from Debian's package, for as long as a test run needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farandole.process.parent_death import signal_on_parent_death
from tests.support.ports import free_ports

_START_S = 120
PASSWORD = "a-superuser-of-the-tests"


@dataclass(frozen=True)
class PostgreSQL:
    """A running server.

    Args:
        port: The port on 127.0.0.1.
        programs: The folder of its programs.
        user: The system user that runs it, who may sign in as `postgres` through the socket without a password.
        sockets: The folder of its socket.
    """

    port: int
    programs: Path
    user: dict[str, Any]
    sockets: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a client on this machine, without user and password."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port)}

    def query(self, sql: str, database: str = "postgres") -> list[str]:
        """Run a query as superuser and return its rows, columns separated by bars."""
        done = subprocess.run(
            [self.programs / "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, database],
            env={**os.environ, **self.environment, "PGUSER": "postgres", "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def postgresql_programs() -> Path:
    """Return the folder of the newest version's programs; skip the test if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        pytest.skip("no PostgreSQL here; on Debian: apt-get install postgresql")
    return found[-1].parent if found else Path(str(on_path)).parent


@contextmanager
def running_postgresql(*initdb: str) -> Iterator[PostgreSQL]:
    """Start a new server.

    Args:
        initdb: Arguments for `initdb`.
    """
    programs = postgresql_programs()
    directory = Path(tempfile.mkdtemp(prefix="farandole-postgresql-"))  # short, because paths of sockets must be
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        entry = pwd.getpwnam("postgres")
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    try:
        (directory / "password").write_text(PASSWORD)
        (directory / "password").chmod(0o444)
        made = subprocess.run(
            [
                programs / "initdb", "--pgdata", directory / "data", "--username=postgres", *initdb,
                "--encoding=UTF8", f"--pwfile={directory / 'password'}", "--no-sync",
            ],
            capture_output=True, text=True, check=False, cwd=directory, **user,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        (port,) = free_ports()
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            directory / "data",
            "-k",
            directory,
            "-p",
            str(port),
            "-F",
        ]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "-c", "listen_addresses=127.0.0.1"],
                stdout=log,
                stderr=log,
                cwd=directory,
                preexec_fn=lambda: signal_on_parent_death(signal.SIGQUIT),
                **user,
            )
        try:
            server = PostgreSQL(port, programs, user, directory)
            _wait_until_ready(server, process, directory / "log")
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # an immediate shutdown that still removes its shared memory
            process.wait()
    finally:
        shutil.rmtree(directory)


def _wait_until_ready(server: PostgreSQL, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    command: list[str | Path] = [server.programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={server.port}"]
    while subprocess.run(command, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
