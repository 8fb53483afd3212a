from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from farandole.cli import serve, serve_options
from farandole.errors import FarandoleError, SpecError, UnavailableError, UserError
from farandole.spec import Serve

JOB = """\
name: flights
data: {sources: {flights: {path: flights.csv}}, features: {distance: {kind: numeric}}}
tracking: {uri: "http://mlflow.example"}
serve: {port: 9000, workers: 3, no_auth: true, split: {champion: 0.5, trial: 0.5}, payload_log: rows, nan: missing}
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    path = tmp_path / "job.yaml"
    path.write_text(JOB, encoding="utf-8")
    return path


def given(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Return the options that a command line gives, as `farandole serve` reads them."""
    found: list[dict[str, Any]] = []

    def record(context: typer.Context) -> dict[str, Any]:
        found.append(read(context))
        raise typer.Exit

    read = serve_options.given
    app = typer.Typer()
    serve.add_to(app)
    with monkeypatch.context() as patched:
        patched.setattr(serve_options, "given", record)
        CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    return found[0]


def test_options_of_the_command_line_win_over_the_job_file(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = given(monkeypatch, str(job_file), "--port", "8000", "--auth", "--access-dir", "keys")
    assert options == {"port": 8000, "no_auth": False, "access_dir": str(Path("keys").absolute())}
    found = serve_options.chosen(options, [str(job_file)], ["serve.workers=2", "serve.deadline=3"])
    assert (found.port, found.no_auth, found.workers, found.deadline, found.nan) == (8000, False, 2, 3.0, "missing")
    assert found.models == ("models:/flights",)
    assert found.split == {"champion": 0.5, "trial": 0.5}
    assert found.payload_log == str(job_file.parent / "rows")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://mlflow.example"


def test_models_beside_a_job_file_replace_its_own(job_file: Path) -> None:
    found = serve_options.chosen({"split": {}}, [str(job_file), "models:/other/2"])
    assert (found.models, found.port) == (("models:/other/2",), 9000)
    assert serve_options.chosen({"split": {}}, [str(job_file)]).models == ("models:/flights@champion",)


def test_models_alone_have_the_defaults_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    options = given(monkeypatch, "bundle", "--split", "a=0.9,b=0.1", "--shadow", "c", "--audit", "required")
    found = serve_options.chosen(options, ["bundle"])
    assert found == Serve().model_copy(
        update={"models": ("bundle",), "split": {"a": 0.9, "b": 0.1}, "shadow": ("c",), "audit": "required"}
    )


@pytest.mark.parametrize(
    ("models", "overrides", "message"),
    [
        (["bundle"], ["serve.port=1"], "--set: changes fields of a job file; give one"),
        (["JOB", "other.yaml"], [], "other.yaml: is a second job file"),
        (["JOB"], ["serve.port=x"], r"serve\.port: 'x': must be a whole number"),
        (["nowhere.yaml"], [], "nowhere.yaml: there is no such file"),
    ],
)
def test_wrong_choice_is_refused(job_file: Path, models: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(FarandoleError, match=message) as refused:
        serve_options.chosen({}, [model.replace("JOB", str(job_file)) for model in models], overrides)
    assert isinstance(refused.value, SpecError | UserError)


def test_folder_with_the_ending_of_a_job_file_is_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "bundle.yaml").mkdir()
    assert not serve_options.is_job_file(str(tmp_path / "bundle.yaml"))
    assert serve_options.is_job_file("job.yml")
    assert not serve_options.is_job_file("models:/flights@champion")


def test_access_options_have_absolute_paths_and_complete_tokens(farandole_home: Path) -> None:
    tokens = {"oidc_issuer": "https://issuer", "oidc_audience": "service", "oidc_keys": "keys.json"}
    options = serve_options.access(Serve().model_copy(update={"audit": "required", **tokens}))
    assert options["directory"] == str(farandole_home / "access")
    assert (options["audit"], options["audit_required"]) == (True, True)
    assert options["tokens"] == {
        "issuer": "https://issuer",
        "audience": "service",
        "keys": "keys.json",
        "authority": None,
        "roles_claim": "roles",
        "rate": None,
        "daily_rows": None,
    }
    assert "tokens" not in serve_options.access(Serve(access_dir="a", audit="off"))


def test_limits_of_subjects_are_written_as_those_of_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    provider = ["--oidc-issuer", "https://issuer", "--oidc-audience", "service", "--oidc-keys", "https://issuer/keys"]
    limits = ["--oidc-rate", "600 / min", "--oidc-daily-rows", "1000", "--oidc-ca", str(tmp_path / "ca.pem")]
    found = serve_options.chosen(given(monkeypatch, "bundle", *provider, *limits), ["bundle"])
    tokens = serve_options.access(found)["tokens"]
    assert (tokens["rate"], tokens["daily_rows"]) == ("600/min", 1000)
    assert tokens["authority"] == str(tmp_path / "ca.pem")
    found = serve_options.chosen(given(monkeypatch, "bundle", *provider, "--oidc-rate", "often"), ["bundle"])
    with pytest.raises(UserError, match="--oidc-rate: 'often' is not a rate; write a number of requests and a period"):
        serve_options.access(found)


@pytest.mark.parametrize("limit", [{"oidc_rate": "10/s"}, {"oidc_daily_rows": 5}, {"oidc_ca": "ca.pem"}])
def test_limits_of_subjects_without_a_provider_are_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--oidc-issuer: is missing; tokens need"):
        serve_options.access(Serve().model_copy(update=limit))


def test_options_that_do_not_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--oidc-keys"):
        serve_options.access(Serve().model_copy(update={"oidc_issuer": "https://issuer", "oidc_audience": "service"}))
    with pytest.raises(UserError, match="--tls-key"):
        serve_options.tls(Serve().model_copy(update={"tls_cert": "certificate.pem"}))
    with pytest.raises(UserError, match="--audit: 'maybe': write on, off or required"):
        given(monkeypatch, "bundle", "--audit", "maybe")
    with pytest.raises(UserError, match="--nan: 'ignore': write refuse or missing"):
        given(monkeypatch, "bundle", "--nan", "ignore")
    assert serve_options.tls(Serve()) == {}


def test_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_options.require_libraries()
    monkeypatch.setattr(serve_options, "_LIBRARIES", ("json", "no_such_library"))
    with pytest.raises(UnavailableError, match=r"no_such_library.*farandole\[serve\]"):
        serve_options.require_libraries()


@pytest.mark.parametrize("port", [-1, 65_536])
def test_number_that_is_not_a_port_is_refused(port: int) -> None:
    with pytest.raises(UserError, match=f"--port {port}: is not a port; choose one from 1 to 65535"):
        serve_options.port_number(port)
    assert serve_options.port_number(0) == 0
