"""Two nodes, as two processes with different node names, record in one MLflow run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from farandole.spec import Tracking
from farandole.tracking.recorder import record_run
from farandole.tracking.system_metrics import record_system_metrics

_OTHER_NODE = """
import sys, time
from pathlib import Path
from farandole.spec import Tracking
from farandole.tracking import system_metrics

sampled, sample_node = [], system_metrics.sample_node

def sample_and_count(log, started_ms):
    return sample_node(lambda values, step: (log(values, step), sampled.append(step)), started_ms)

system_metrics.sample_node = sample_and_count
system_metrics._DRAIN_TIMEOUT_S = 60.0
with system_metrics.record_system_metrics(Tracking(), Path(sys.argv[1]), None):
    while len(sampled) < 3:
        time.sleep(0.05)
"""


@pytest.mark.slow
def test_each_node_records_under_its_name_in_the_same_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    directory = home / "jobs" / "nodes"
    monkeypatch.setenv("HOROVOD_HOSTNAME", "node-a")
    with record_run(Tracking(), directory) as recorder, record_system_metrics(Tracking(), directory, recorder):
        monkeypatch.setenv("HOROVOD_HOSTNAME", "node-b")
        began = time.time()
        subprocess.run([sys.executable, "-c", _OTHER_NODE, str(directory)], check=True, timeout=120)
        took_s = time.time() - began
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(str(recorder.run_id))
    for node in ("node-a", "node-b"):
        name = f"system/{node}/cpu_utilization_percentage"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) >= 2
        assert steps == sorted(steps)
        assert max(steps) <= took_s + 60
        assert f"system/{node}/network_receive_megabytes" in run.data.metrics
    assert {name.split("/")[1] for name in run.data.metrics} == {"node-a", "node-b"}
    assert [path.name for path in (directory / "tracking").iterdir()] == ["record.json"]
