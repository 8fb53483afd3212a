from __future__ import annotations

from pathlib import Path

import pytest

from farandole.spec import Tracking
from farandole.tracking.store import TrackingStore, resolve_store


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_by_default_runs_are_recorded_in_farandole_home(tmp_path: Path) -> None:
    assert resolve_store(Tracking()) == TrackingStore(
        f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "artifacts")
    )


def test_the_job_file_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://variable:5000")
    assert resolve_store(Tracking()).uri == "http://variable:5000"
    assert resolve_store(Tracking(uri="http://file:5000")).uri == "http://file:5000"


def test_a_server_determines_the_artifact_location_unless_the_user_does() -> None:
    assert resolve_store(Tracking(uri="https://mlflow")).artifacts is None
    assert resolve_store(Tracking(uri="https://mlflow", artifacts="s3://bucket/a")).artifacts == "s3://bucket/a"


@pytest.mark.parametrize(
    ("uri", "shown", "is_server"),
    [
        ("https://ada:pass@mlflow:5000/x", "https://mlflow:5000/x", True),
        ("postgresql://ada:p@ss@db/mlflow", "postgresql://db/mlflow", False),
        ("sqlite:////home/a/mlflow.db", "sqlite:////home/a/mlflow.db", False),
        ("sqlite:////home/a@b/mlflow.db?timeout=9", "sqlite:////home/a@b/mlflow.db", False),
    ],
)
def test_a_password_is_never_shown(uri: str, shown: str, is_server: bool) -> None:
    store = TrackingStore(uri, None)
    assert (store.shown, store.is_server) == (shown, is_server)
