from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from farandole.serving.service.drift import DriftCounter, read_bins
from farandole.serving.service.metrics import DIRECTORY_VARIABLE, Metrics, Watched

WORKER = """
import sys
from pathlib import Path
from farandole.serving.service.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    metrics.request("flights", "3", "predict", 200, 0.004)
metrics.error("queue_full")
metrics.batch("flights", "3", 7, 0.002, 5)
metrics.shadow("flights", "4", 6, 7)
metrics.reload("ok")
if len(sys.argv) > 3:
    sys.stdout.buffer.write(metrics.render())
"""


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Return the samples by name and values of labels, these in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def work(directory: Path, count: int, *more: str) -> bytes:
    command = [sys.executable, "-c", WORKER, str(directory), str(count), *more]
    environment = {**os.environ, DIRECTORY_VARIABLE: str(directory)}
    return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120).stdout


def test_metrics_of_all_workers_are_added_up_also_those_of_ended_ones(tmp_path: Path) -> None:
    work(tmp_path, 3)
    (tmp_path / "supervisor.json").write_text(json.dumps({"workers": 2, "restarts": 1}))
    found = samples(work(tmp_path, 4, "render"))
    assert found["farandole_requests_total", "flights", "predict", "200", "3"] == 7
    assert found["farandole_request_seconds_count", "predict"] == 7
    assert found["farandole_request_seconds_bucket", "0.005", "predict"] == 7
    assert found["farandole_errors_total", "queue_full"] == 2
    assert found["farandole_rows_total", "flights", "3"] == 14
    assert found["farandole_batch_rows_sum", "flights", "3"] == 14
    assert found["farandole_shadow_rows_total", "true", "flights", "4"] == 12
    assert found["farandole_shadow_rows_total", "false", "flights", "4"] == 2
    assert found[("farandole_workers",)] == 2
    assert found[("farandole_worker_restarts",)] == 1


def test_metrics_of_one_process_need_no_directory() -> None:
    metrics = Metrics()
    metrics.request("flights", "3", "predict", 200, 0.004)
    assert samples(metrics.render())["farandole_requests_total", "flights", "predict", "200", "3"] == 1


def test_drift_and_predictions_are_shown(tmp_path: Path) -> None:
    columns = read_bins({"x": {"edges": [1], "shares": [0.5, 0.5]}})
    predictions = read_bins({"probability": {"edges": [0.5], "shares": [0.5, 0.5]}})
    counter = DriftCounter([*columns, *predictions], tmp_path / "drift-key-1.counts")
    counter.observe({"x": np.zeros(200), "probability": np.array([0.1, 0.9] * 100)}, 200)
    watched = Watched("flights", "3", "key", columns, predictions)
    found = samples(Metrics(tmp_path, lambda: [watched]).render())
    assert found["farandole_feature_drift_psi", "x", "flights", "3"] > 1
    assert found["farandole_prediction_drift_psi", "flights", "probability", "3"] == pytest.approx(0)
    assert found["farandole_predictions", "-inf..0.5", "flights", "probability", "3"] == 100
