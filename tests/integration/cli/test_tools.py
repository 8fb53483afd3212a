from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from mlflow import MlflowClient

from tests.support.paths import ROOT

FARANDOLE = str(Path(sys.executable).with_name("farandole"))


def farandole(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FARANDOLE, *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_the_schema_is_the_committed_one_and_fits_the_example() -> None:
    schema = json.loads(farandole("schema").stdout)
    assert schema == json.loads((ROOT / "jobs/job.schema.json").read_text())
    job = yaml.safe_load((ROOT / "jobs/flights/job.yaml").read_text())
    jsonschema.validate(job, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**job, "trian": {}}, schema)


def test_doctor_looks_at_everything_a_job_needs(home: Path) -> None:
    done = farandole("doctor", "--json")
    findings = json.loads(done.stdout)["findings"]
    names = [finding["name"] for finding in findings]
    assert names == [
        "java", "pyspark", "pyarrow", "torch", "horovod", "mlflow", "horovod.torch", "disk", "MLflow store",
    ]  # fmt: skip
    assert all(set(finding) == {"name", "ok", "found", "remedy"} for finding in findings)
    assert all(bool(finding["remedy"]) != finding["ok"] for finding in findings)
    assert done.returncode == (0 if all(finding["ok"] for finding in findings) else 3)


def test_doctor_ends_with_3_and_a_remedy_where_something_is_missing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:1")
    done = farandole("doctor", "--json")
    assert done.returncode == 3
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert not found["java"]["ok"]
    assert "install a JDK" in found["java"]["remedy"]
    assert not found["MLflow store"]["ok"]
    assert found["MLflow store"]["remedy"]
    assert "s3cret" not in done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _get(url: str, data: dict[str, Any] | None = None) -> str:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture
def served(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """A UI on a store with one run: its process, its address, the run's id."""
    run_id = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").create_run("0").info.run_id
    port = _free_port()
    process = subprocess.Popen(
        [FARANDOLE, "ui", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _get(f"{url}/health")
            break
        except OSError:
            time.sleep(0.2)
    yield process, url, run_id
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.slow(seconds=80)
def test_the_ui_answers_on_the_jobs_store_and_ends_when_it_is_told(
    served: tuple[subprocess.Popen[bytes], str, str],
) -> None:
    process, url, run_id = served
    assert _get(f"{url}/health") == "OK"
    assert "<title>MLflow" in _get(url)
    runs = json.loads(_get(f"{url}/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}))["runs"]
    assert [run["info"]["run_id"] for run in runs] == [run_id]

    taken = farandole("ui", "--port", url.rpartition(":")[2])
    assert taken.returncode == 3
    assert "Address already in use on 127.0.0.1; choose another port" in taken.stderr

    process.send_signal(signal.SIGTERM)
    process.wait(20)
    with pytest.raises(OSError, match="refused"):
        _get(f"{url}/health")
