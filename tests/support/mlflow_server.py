"""A real MLflow server that can be started, killed and started again on the same store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.support.ports import free_ports

_START_S = 400


class MlflowServer:
    """A server with a separate SQLite store and artifact folder.

    Args:
        directory: The folder of both.
        host: The address to listen on.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        (self._port,) = free_ports(host=host)
        self._host = host
        self.uri = f"http://{host}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """True between a start and a kill."""
        return self._process is not None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port), "--workers", "1"]
        command += ["--host", self._host, "--allowed-hosts", f"{self._host}:{self._port}"]
        command += ["--backend-store-uri", f"sqlite:///{self._directory / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._directory / "artifacts")]
        # Variables that point clients to the server must not reach the server itself.
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        # Nobody uses MLflow's own jobs, whose seven processes each import all of it.
        variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < deadline, "the MLflow server did not start"
                time.sleep(0.2)

    def kill(self) -> None:
        """Kill the server and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
