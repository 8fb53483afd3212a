"""`schema` and `doctor` as processes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.support.command import farandole
from tests.support.paths import ROOT


def test_schema_is_the_committed_one_and_accepts_the_example() -> None:
    schema = json.loads(farandole("schema").stdout)
    assert schema == json.loads((ROOT / "jobs/job.schema.json").read_text())
    job = yaml.safe_load((ROOT / "jobs/flights/job.yaml").read_text())
    jsonschema.validate(job, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**job, "trian": {}}, schema)


def test_doctor_checks_everything_that_a_job_needs(home: Path) -> None:
    done = farandole("doctor", "--json")
    findings = json.loads(done.stdout)["findings"]
    names = [finding["name"] for finding in findings]
    assert names == [
        "java", "pyspark", "pyarrow", "torch", "horovod", "mlflow", "horovod.torch", "disk", "MLflow store",
    ]  # fmt: skip
    assert all(set(finding) == {"name", "ok", "found", "remedy"} for finding in findings)
    assert all(bool(finding["remedy"]) != finding["ok"] for finding in findings)
    assert done.returncode == (0 if all(finding["ok"] for finding in findings) else 3)


def test_doctor_exits_with_3_and_a_remedy_if_something_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", "0"), "--port 0: is not a port; choose one from 1 to 65535"),
        (("--port", "80000"), "--port 80000: is not a port; choose one from 1 to 65535"),
        (("--host", "192.0.2.1"), "--host 192.0.2.1: Cannot assign requested address; use an address of this machine"),
    ],
)
def test_ui_that_cannot_listen_is_refused_at_once(farandole_home: Path, options: tuple[str, ...], message: str) -> None:
    done = farandole("ui", "--no-browser", *options)
    assert done.returncode == 2
    assert message in done.stderr
