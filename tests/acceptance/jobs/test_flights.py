"""The flights job from raw CSV to a registered model: real data, real Spark, two real workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from tests.support.paths import ROOT

JOB = ROOT / "jobs/flights/job.yaml"
SETTINGS = ("train.epochs=2", "tracking.system_metrics=false")


def _run() -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("farandole")), "run", str(JOB), "--json"]
    for setting in SETTINGS:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow(seconds=100)
@pytest.mark.timeout(900)
def test_flights_run_from_raw_files_to_a_model_that_predicts(home: Path) -> None:
    first = _run()
    assert first["dataset"]["reused"] is False
    assert sum(first["dataset"]["rows"].values()) == 327_346  # flights with a known delay
    assert (Path(first["dataset"]["path"]) / "manifest.json").is_file()
    assert Path(first["directory"], "job.json").is_file()
    training = first["training"]
    assert training["workers"] == 2
    assert training["metrics"]["test"]["roc_auc"] >= 0.75
    assert first["model"]["uri"] == "models:/flights/1"

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model(first["model"]["uri"])
    flight = model.input_example.assign(carrier="UA", origin="EWR", dest="ORD", departure_minute=1200)
    flight["departure"] = pd.Timestamp("2013-07-01 20:00")
    predicted = model.predict(flight)
    assert 0 < predicted["probability"][0] < 1

    second = _run()
    assert second["dataset"] == {**first["dataset"], "reused": True}
    assert second["training"]["weights_digest"] == training["weights_digest"]
    assert second["training"]["mlflow_run_id"] != training["mlflow_run_id"]
    assert second["model"]["uri"] == "models:/flights/2"
