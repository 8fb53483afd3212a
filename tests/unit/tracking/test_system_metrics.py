from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import TrainingError
from farandole.spec import Tracking
from farandole.tracking.system_metrics import node_name, record_system_metrics


def test_a_missing_run_link_is_reported(tmp_path: Path) -> None:
    missing = pytest.raises(TrainingError, match="the link to the job's MLflow run is missing on node")
    with missing, record_system_metrics(Tracking(), tmp_path, None):
        pytest.fail("it was recorded")


def test_the_node_name_comes_from_the_user_then_the_launcher_then_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOROVOD_HOSTNAME", "worker:1")
    assert node_name() == "worker_1"
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_NODE_ID", "left")
    assert node_name() == "left"
    monkeypatch.delenv("MLFLOW_SYSTEM_METRICS_NODE_ID")
    monkeypatch.setenv("HOROVOD_HOSTNAME", "localhost")
    assert node_name() not in ("", "localhost")
