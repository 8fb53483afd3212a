"""The registry of a real store with two versions of a model, each trained in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from farandole.bundle import open_bundle
from farandole.errors import RegistryError, UnavailableError, UserError
from farandole.serving import registry
from farandole.serving.registry import Promotion
from farandole.spec import Job
from tests.support.recorded_run import RecordedRun, train_in_process
from tests.support.tracking import EventList

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def trained(module_home: Path, make_module_job: MakeJob) -> list[RecordedRun]:
    """Train two versions of `small`, the second one for longer, and one that is not registered."""
    found = []
    for epochs, register in ((1, True), (3, True), (1, False)):
        with pytest.MonkeyPatch.context() as patch:
            job = make_module_job(train__epochs=epochs)
            found.append(train_in_process(job, module_home, patch, register=register))
    return found


@pytest.fixture
def home(trained: list[RecordedRun], farandole_home: Path) -> Path:
    """Copy the store of the trained models: a test may change it."""
    farandole_home.mkdir()
    shutil.copy(trained[0].home / "mlflow.db", farandole_home / "mlflow.db")
    return farandole_home


@pytest.fixture
def client(home: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


def _promote(version: str, alias: str = "champion") -> Promotion:
    return registry.promote(registry.plan_promotion("small", version, alias=alias))


def test_bundle_is_fetched_once_whichever_name_it_has(
    trained: list[RecordedRun], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _promote("2")
    fetched = registry.fetch("models:/small@champion")
    assert (fetched.name, fetched.version, fetched.is_last_known) == ("small", "2", False)
    assert fetched.path == home / "cache" / "bundles" / fetched.digest.removeprefix("sha256:")
    bundle = open_bundle(fetched.path)
    assert bundle.digest == fetched.digest
    assert list(bundle.label.classes) == ["false", "true"]
    run_id = trained[1].run.info.run_id
    assert fetched.run_id == run_id
    written = fetched.path.stat().st_ino
    for name in ("models:/small/2", "models:/small/latest", f"runs:/{run_id}/model", f"runs:/{run_id}/small"):
        assert registry.fetch_bundle(name) == fetched.path
    assert registry.fetch_bundle(str(fetched.path)) == fetched.path
    assert fetched.path.stat().st_ino == written
    assert registry.fetch_bundle("models:/small/1") != fetched.path


def test_logged_model_need_not_be_registered(trained: list[RecordedRun], home: Path) -> None:
    uri = trained[2].result["model"]["uri"]
    assert uri.startswith("models:/m-")
    fetched = registry.fetch(uri)
    assert (fetched.name, fetched.run_id) == (None, trained[2].run.info.run_id)
    assert open_bundle(fetched.path).name == "small"


def test_bundle_is_found_in_the_directory_of_an_mlflow_model(trained: list[RecordedRun], home: Path) -> None:
    model_id = trained[2].result["model"]["uri"].removeprefix("models:/")
    location = trained[2].client.get_logged_model(model_id).artifact_location
    assert open_bundle(registry.fetch_bundle(location)).digest == registry.fetch(f"models:/{model_id}").digest


def test_damaged_cached_bundle_is_fetched_again(home: Path) -> None:
    path = registry.fetch_bundle("models:/small/1")
    weights = path / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert registry.fetch_bundle("models:/small/1") == path
    assert weights.read_bytes() == good
    assert [entry for entry in path.parent.iterdir() if entry.name.endswith(".tmp")] == []


def test_bundle_with_a_flipped_byte_in_the_store_is_refused(
    trained: list[RecordedRun], home: Path, tmp_path: Path
) -> None:
    client = trained[2].client
    model = client.get_logged_model(trained[2].result["model"]["uri"].removeprefix("models:/"))
    folder = tmp_path / "copied"
    shutil.copytree(model.artifact_location.removeprefix("file://"), folder)
    damaged = next(folder.glob("artifacts/*/weights.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    store = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    store.create_registered_model("damaged")
    store.create_model_version("damaged", folder.as_uri())
    with pytest.raises(UserError, match=r"weights\.safetensors: was changed"):
        registry.fetch_bundle("models:/damaged/1")
    assert list((home / "cache" / "bundles").glob("[!k]*")) == []


def test_alias_is_answered_from_the_cache_while_mlflow_is_away(home: Path) -> None:
    _promote("1")
    fetched = registry.fetch("models:/small@champion")
    (home / "mlflow.db").rename(home / "away.db")
    events = EventList()
    known = registry.fetch("models:/small@champion", events)
    assert (known.path, known.version, known.is_last_known) == (fetched.path, "1", True)
    (warning,) = events.warnings
    assert "there is no MLflow store" in warning
    assert "the cached bundle is used: version 1, as MLflow answered at " in warning
    with pytest.raises(UnavailableError, match="this machine has never fetched the model"):
        registry.fetch("models:/small/2")
    assert not (home / "mlflow.db").exists()
    (home / "away.db").rename(home / "mlflow.db")
    assert not registry.fetch("models:/small@champion", events).is_last_known
    assert len(events.warnings) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/smal/1", r"smal: there is no registered model of this name in sqlite://.*; did you mean small\?"),
        ("models:/small/7", "small/7: there is no such version; small has 2, 1"),
        ("models:/small@best", "small has no alias best; it has no alias; set it with `farandole models promote small"),
        ("models:/m-" + "0" * 32, "0000"),
        ("runs:/" + "0" * 32 + "/model", "there is no such run in sqlite://"),
    ],
)
def test_unknown_model_is_named_with_what_there_is(home: Path, model: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        registry.fetch_bundle(model)


def test_model_without_a_bundle_is_refused(home: Path, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "other" / "artifacts").mkdir(parents=True)
    client.create_registered_model("other")
    client.create_model_version("other", (tmp_path / "other").as_uri())
    with pytest.raises(RegistryError, match="models:/other/1: the model holds no bundle; it was logged by other means"):
        registry.fetch_bundle("models:/other/1")
