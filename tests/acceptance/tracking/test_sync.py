"""A complete training without its MLflow server, and the command that sends its records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from tests.support.made_data import Made, WriteJob
from tests.support.mlflow_server import MlflowServer

FARANDOLE = str(Path(sys.executable).with_name("farandole"))


def farandole(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [FARANDOLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, **options)


@pytest.mark.slow(seconds=110)
@pytest.mark.timeout(1200)
def test_a_job_succeeds_without_its_server_and_is_sent_later(
    home: Path,
    write_job: WriteJob,
    made: Callable[..., Made],
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = server.uri.removeprefix("http://")
    for name, value in (("URI", f"http://ada:s3cret@{address}"), ("USERNAME", ""), ("PASSWORD", "")):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    job = write_job(resources__workers=1, tracking={"system_metrics": False, "wait_s": 1})
    trained = farandole("train", job, "--register", "--json")
    assert trained.returncode == 0, trained.stderr
    document = json.loads(trained.stdout)
    assert document["training"]["mlflow_run_id"] is None
    assert f"{server.uri}: the MLflow store does not answer (" in trained.stderr
    assert f"send them with `farandole sync {document['id']}` when it answers again" in trained.stderr
    rows = made("binary").raw["test"]
    local = mlflow.pyfunc.load_model(document["model"]["uri"]).predict(rows.drop(columns="label"))
    directory = Path(document["directory"])
    assert not any(b"s3cret" in path.read_bytes() for path in home.rglob("*") if path.is_file())

    still = farandole("sync", "--json")
    assert still.returncode == 3
    assert json.loads(still.stdout)[0]["unsent"] > 30

    server.start()
    sent = farandole("sync", document["id"], "--json")
    assert sent.returncode == 0, sent.stderr
    (synced,) = json.loads(sent.stdout)
    assert (synced["unsent"], synced["model_uri"]) == (0, "models:/small/1")
    client = MlflowClient(server.uri)
    run = client.get_run(synced["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "train.loss")
    assert [point.step for point in sorted(losses, key=lambda point: point.timestamp)] == list(range(1, 33))
    assert run.data.params["train.epochs"] == "2"
    for name, value in document["training"]["metrics"]["test"].items():
        assert run.data.metrics[f"test.{name}"] == pytest.approx(value)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "dataset",
        "environment",
        "evaluation",
        "job",
        "plots",
    }
    version = client.get_model_version("small", "1")
    folder = mlflow.artifacts.download_artifacts(version.source, dst_path=str(tmp_path / "m"), tracking_uri=server.uri)
    assert mlflow.pyfunc.load_model(folder).predict(rows.drop(columns="label")).equals(local)
    assert [path.name for path in (directory / "tracking").iterdir()] == ["record.json"]
    assert farandole("sync").stdout.startswith("nothing to send")
