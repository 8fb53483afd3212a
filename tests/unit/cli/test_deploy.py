"""`farandole deploy` and `undeploy`, as far as they need no cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from farandole.backends.kubernetes.manifests.serving import Replicas, ServiceSpec, render_service
from farandole.cli.main import app
from farandole.errors import FarandoleError

MODEL = "models:/Flights_2@champion"


def _run(*arguments: str) -> Result:
    result: Any = CliRunner().invoke(app, [*arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    return result


def test_dry_run_prints_the_objects() -> None:
    done = _run("deploy", MODEL, "--replicas", "1:3", "--image", "example/serve:2", "--dry-run")
    expected = render_service(ServiceSpec(MODEL, "serving-flights-2", Replicas(1, 3), "example/serve:2"))
    assert list(yaml.safe_load_all(done.stdout)) == expected
    assert "*id" not in done.stdout
    as_json = _run("deploy", MODEL, "--name", "trips", "--dry-run", "--json")
    assert {each["metadata"]["name"] for each in json.loads(as_json.stdout)["objects"]} == {"serving-trips"}


def test_job_file_names_the_model(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    start = "name: trips\ndata: {sources: {a: {path: a.csv}}, features: {b: {kind: numeric}}}\n"
    job.write_text(start + "serve: {alias: best}", encoding="utf-8")
    done = _run("deploy", str(job), "--replicas", "1:3", "--image", "example/serve:2", "--dry-run")
    expected = render_service(ServiceSpec("models:/trips@best", "serving-trips", Replicas(1, 3), "example/serve:2"))
    assert list(yaml.safe_load_all(done.stdout)) == expected
    job.write_text(start + "serve: {split: {a: 0.5, b: 0.5}}", encoding="utf-8")
    with pytest.raises(FarandoleError, match=r"serve: a service in a cluster answers with one version"):
        _run("deploy", str(job), "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy", "/some/bundle", "--name", "a"], "is a directory of this machine, which pods do not see"),
        (["deploy", "runs:/1/model"], "has no registered name; choose the service's name by --name"),
        (["deploy", MODEL, "--backend", "hosts"], "--backend: 'hosts': services run on kubernetes"),
        (["deploy", MODEL, "--replicas", "5:2"], "--replicas: '5:2': write MIN:MAX"),
        (["deploy", MODEL, "--name", "No_Name"], "--name: 'No_Name': a name has at most 40 small letters"),
        (["undeploy", "No_Name"], "--name: 'No_Name'"),
    ],
)
def test_wrong_argument_is_an_error_before_the_cluster_is_asked(arguments: list[str], message: str) -> None:
    with pytest.raises(FarandoleError) as error:
        _run(*arguments)
    assert message in str(error.value)
    assert error.value.exit_code == 2
