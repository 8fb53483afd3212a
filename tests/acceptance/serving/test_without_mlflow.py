"""A service whose registry is away: while it runs, and when it starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from farandole.bundle import open_bundle
from tests.support.served import ROW, RunningService, make_bundle, running_service
from tests.support.service_clients import ask

ROWS = {"rows": [ROW]}
OPTIONS = ("--no-auth", "--workers", "1", "--poll", "0.2")


@pytest.fixture
def store(farandole_home: Path, tmp_path: Path) -> Path:
    """Register two versions of a model in the store of `farandole_home`, the first one as the champion."""
    farandole_home.mkdir()
    client = MlflowClient(f"sqlite:///{farandole_home / 'mlflow.db'}")
    client.create_registered_model("flights")
    for number in (1, 2):
        logged = tmp_path / f"logged-{number}"
        make_bundle(logged / "artifacts" / "bundle", seed=number)
        client.create_model_version("flights", logged.as_uri())
    client.set_registered_model_alias("flights", "champion", "1")
    return farandole_home / "mlflow.db"


def _digest(service: RunningService) -> str:
    answer = ask(service.url, "/predict", ROWS)
    assert answer.status == 200, answer.body
    return str(answer.json["model"]["digest"])


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_service_continues_and_starts_with_the_last_known_version(store: Path, tmp_path: Path) -> None:
    first, second = (open_bundle(path) for path in sorted(tmp_path.glob("logged-*/artifacts/bundle")))
    away = store.with_name("away.db")
    with running_service("models:/flights@champion", *OPTIONS) as service:
        assert _digest(service) == first.digest
        store.rename(away)
        assert "the cached bundle is used: version 1" in service.wait_for("poll_failed")["error"]
        assert _digest(service) == first.digest
        away.rename(store)
        service.wait_for("poll_recovered")
        MlflowClient(f"sqlite:///{store}").set_registered_model_alias("flights", "champion", "2")
        service.wait_for("reloaded")
        assert _digest(service) == second.digest
        store.rename(away)
        assert service.end() == 0
    with running_service("models:/flights@champion", *OPTIONS) as service:
        warning = service.wait_for("message")
        assert warning["level"] == "warning"
        assert "the cached bundle is used: version 2" in warning["text"]
        assert _digest(service) == second.digest
        assert service.end() == 0
    shutil.rmtree(store.parent / "cache")
    command = [sys.executable, "-m", "farandole", "serve", "models:/flights@champion", *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 3
    assert "this machine has never fetched the model" in done.stderr
    assert "Traceback" not in done.stderr
