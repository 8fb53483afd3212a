from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """Provide an MLflow server that the test starts, and kill it afterwards."""
    server = MlflowServer(tmp_path / "server")
    yield server
    server.kill()
