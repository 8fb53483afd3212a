"""The registry of a real MLflow server, over HTTP, also while the server is away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from farandole.bundle import open_bundle
from farandole.bundle.signing import create_key, sign
from farandole.cli.main import app
from farandole.errors import RegistryError, UnavailableError
from farandole.serving import registry
from farandole.serving.registry.registration import register_bundle
from farandole.serving.service import DeploymentPlan
from farandole.spec import Job
from tests.support.mlflow_server import MlflowServer
from tests.support.recorded_run import RecordedRun, train_in_process
from tests.support.served import running_service
from tests.support.service_clients import ask
from tests.support.tracking import EventList

pytestmark = [pytest.mark.slow(seconds=60), pytest.mark.timeout(1200)]

MakeJob = Callable[..., Job]
_ROW = {"row": 3.0, "width": 9.5, "height": -2.25, "colour": "red", "seen_at": "2024-03-01T12:30:00"}


@dataclass(frozen=True)
class Trained:
    """An MLflow server with two versions of the model `small`.

    Args:
        server: The server.
        runs: The trainings.
    """

    server: MlflowServer
    runs: list[RecordedRun]

    @property
    def client(self) -> MlflowClient:
        """A client of the server."""
        return MlflowClient(self.server.uri, registry_uri=self.server.uri)


@pytest.fixture(scope="module")
def trained(module_home: Path, make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Train two versions of `small`, the second one for longer."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow") / "server")
    server.start()
    try:
        runs = []
        for epochs in (1, 3):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_URI", server.uri)
                runs.append(train_in_process(make_module_job(train__epochs=epochs), module_home, patch))
        yield Trained(server, runs)
    finally:
        server.kill()


@pytest.fixture
def server(trained: Trained, farandole_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """Use the server, which holds two versions and no alias when a test begins, from a machine with an empty cache."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.server.uri)
    yield trained.server
    if not trained.server.is_running:
        trained.server.start()
    for alias in trained.client.get_registered_model("small").aliases:
        trained.client.delete_registered_model_alias("small", alias)
    for version in trained.client.search_model_versions("name = 'small'"):
        if int(version.version) > 2:
            trained.client.delete_model_version("small", version.version)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "80"})


def _document(*arguments: str) -> Any:
    done = _run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_models_and_versions_are_shown(server: MlflowServer, trained: Trained) -> None:
    (model,) = _document("list")
    assert (model["name"], model["versions"], model["newest"], model["aliases"]) == ("small", 2, "2", {})
    newest, oldest = _document("show", "small")
    assert (newest["version"], oldest["version"]) == ("2", "1")
    version = _document("show", "small/2")
    assert version["metrics"] == pytest.approx(trained.runs[1].result["training"]["metrics"]["test"])
    assert version["run_id"] == trained.runs[1].result["training"]["mlflow_run_id"]


def test_alias_is_promoted_through_a_gate_and_rolled_back(server: MlflowServer, trained: Trained) -> None:
    assert _document("promote", "small", "1", "--yes")["moved"] is True
    assert _document("promote", "small", "2", "--require", "better", "--yes")["former"] == "1"
    refused = _run("promote", "small", "1", "--require", "better", "--yes")
    assert (refused.exit_code, registry.current_version("small@champion")) == (2, "2")
    assert _document("promote", "small", "--rollback", "--yes")["version"] == "1"
    aliases = trained.client.get_registered_model("small").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "previous-champion": "2"}


def test_versions_are_compared(server: MlflowServer) -> None:
    found = _document("compare", "small/1", "small/2")
    assert found["params"] == {"train.epochs": ["1", "3"]}
    assert found["comparable"] is True
    for size in found["sizes"]["total"]:
        assert size > 10_000


def test_origin_reaches_the_source_files(server: MlflowServer, trained: Trained) -> None:
    found = _document("trace", "models:/small/2")
    assert found["complete"] is True
    step = registry.trace_model("models:/small/2")
    assert step.find("bundle").name == registry.fetch("models:/small/2").digest
    assert step.find("file").name == str(trained.runs[1].job.data.sources["things"].path)


def test_card_is_that_of_the_bundle(server: MlflowServer) -> None:
    found = _document("card", "models:/small/1")
    path = registry.fetch_bundle("models:/small/1")
    assert (found["name"], found["version"]) == ("small", "1")
    assert found["text"] == (path / "card.md").read_text(encoding="utf-8")


def test_bundle_is_downloaded_once_and_again_if_it_is_damaged(server: MlflowServer, trained: Trained) -> None:
    fetched = registry.fetch("models:/small/2")
    assert open_bundle(fetched.path).digest == fetched.digest
    run_id = trained.runs[1].result["training"]["mlflow_run_id"]
    written = fetched.path.stat().st_ino
    assert registry.fetch_bundle(f"runs:/{run_id}/model") == fetched.path
    assert fetched.path.stat().st_ino == written
    weights = fetched.path / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert registry.fetch_bundle("models:/small/2") == fetched.path
    assert weights.read_bytes() == good


def test_signed_version_is_registered_and_passes_its_gate(
    server: MlflowServer, trained: Trained, tmp_path: Path
) -> None:
    public = create_key(tmp_path / "key.pem")
    source = registry.fetch("models:/small/1")
    signed = Path(shutil.copytree(source.path, tmp_path / "signed"))
    sign(signed, tmp_path / "key.pem")
    uri = register_bundle(source, signed, {}, "signed")
    gate = ["--require", "signature", "--public-key", str(public), "--yes"]
    assert _document("promote", "small", uri.rpartition("/")[2], *gate)["moved"] is True
    assert _run("promote", "small", "2", *gate).exit_code == 2
    assert registry.current_version("small@champion") == uri.rpartition("/")[2]


def test_unknown_model_and_unknown_run_are_errors_of_the_user(server: MlflowServer) -> None:
    for model, message in (
        ("models:/smal/1", "did you mean small"),
        ("models:/small/7", "no such version; small has 2, 1"),
        ("models:/small@best", "small has no alias best"),
        ("models:/m-" + "0" * 32, "0000"),
        ("runs:/" + "0" * 32 + "/model", f"there is no such run in {server.uri}"),
    ):
        with pytest.raises(RegistryError, match=message):
            registry.fetch_bundle(model)


def test_service_follows_an_alias_and_outlives_the_server(server: MlflowServer, trained: Trained) -> None:
    client, model = trained.client, "models:/small@live"
    client.set_registered_model_alias("small", "live", "1")
    with running_service(model, "--workers", "1", "--no-auth", "--audit", "off", "--poll", "0.2") as service:

        def version() -> str:
            answer = ask(service.url, "/predict", {"rows": [_ROW]})
            assert answer.status == 200, answer.body
            return str(answer.json["model"]["version"])

        assert version() == "1"
        client.set_registered_model_alias("small", "live", "2")
        service.wait_until(lambda: version() == "2", "version 2")
        server.kill()
        service.wait_for("poll_failed")
        assert version() == "2"
        _assert_cache_stands_in(server, model, "2")
        server.start()
        client.set_registered_model_alias("small", "live", "1")
        service.wait_for("poll_recovered")
        service.wait_until(lambda: version() == "1", "version 1 again")
        assert service.end() == 0


def _assert_cache_stands_in(server: MlflowServer, model: str, version: str) -> None:
    """Check what is answered while the server is away: models from the cache, by a service that starts as well."""
    events = EventList()
    known = registry.fetch(model, events)
    assert (known.version, known.is_last_known) == (version, True)
    (warning,) = events.warnings
    assert f"{server.uri}: " in warning
    assert f"the cached bundle is used: version {version}" in warning
    (variant,) = DeploymentPlan([model], {}).resolve(events).models["small"]
    assert (variant.path, variant.version) == (str(known.path.resolve()), version)
    with pytest.raises(UnavailableError, match="this machine has never fetched the model"):
        registry.fetch("models:/small/1")
    for command in (["list"], ["show", "small"], ["promote", "small", "1", "--yes"], ["compare", "small/1", "small/2"]):
        done = _run(*command)
        assert isinstance(done.exception, UnavailableError), command
        assert "check that MLflow runs" in str(done.exception)
