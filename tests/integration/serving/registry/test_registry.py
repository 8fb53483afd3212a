"""The registry of a real store with two versions of a model, each trained in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from farandole.bundle import open_bundle
from farandole.bundle.manifest import write_manifest
from farandole.bundle.signing import create_key, sign
from farandole.cli.main import app
from farandole.errors import RegistryError, UnavailableError, UserError
from farandole.serving import registry
from farandole.serving.registry import Promotion
from farandole.serving.registry.registration import register_bundle
from farandole.shards import Dataset
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
            job = make_module_job(train__epochs=epochs, train__baseline="trivial")
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


def test_models_are_listed_with_their_aliases(home: Path) -> None:
    _promote("2")
    (model,) = registry.list_models()
    assert (model.name, model.versions, model.newest, model.aliases) == ("small", 2, "2", {"champion": "2"})


def test_version_has_what_its_run_carries(trained: list[RecordedRun], home: Path) -> None:
    newest, oldest = registry.show_model("small")
    assert (newest.version, oldest.version) == ("2", "1")
    (version,) = registry.show_model("models:/small/2")
    assert version == newest
    assert version.metrics == pytest.approx(trained[1].result["training"]["metrics"]["test"])
    assert version.test_rows == trained[1].run.data.tags["farandole.test_rows_digest"]
    assert version.params["train.epochs"] == "3"
    assert version.job == trained[1].run.data.tags["farandole.job"]


def test_promotion_is_rolled_back_to_the_version_before(home: Path, client: MlflowClient) -> None:
    with pytest.raises(RegistryError, match="there is no former version to return to; name one: `farandole models"):
        registry.plan_promotion("small", rollback=True)
    assert _promote("1") == Promotion("small", "champion", None, "1", moved=True)
    assert _promote("2") == Promotion("small", "champion", "1", "2", moved=True)
    assert not _promote("2").moved
    back = registry.promote(registry.plan_promotion("small", rollback=True))
    assert (back.former, back.version) == ("2", "1")
    assert registry.current_version("small@champion") == "1"
    assert registry.current_version("small@previous-champion") == "2"
    _promote("@previous-champion", alias="challenger")
    assert {alias: str(version) for alias, version in client.get_registered_model("small").aliases.items()} == {
        "champion": "1", "previous-champion": "2", "challenger": "2",
    }  # fmt: skip


def test_alias_that_somebody_else_moved_is_left_alone(home: Path, client: MlflowClient) -> None:
    plan = registry.plan_promotion("small", "2")
    client.set_registered_model_alias("small", "champion", "1")
    with pytest.raises(RegistryError, match="stands for version 1 by now, and not for no version"):
        registry.promote(plan)


def test_worse_version_does_not_pass(home: Path) -> None:
    _promote("2")
    for metric in (None, "log_loss"):
        plan = registry.plan_promotion("small", "1", require=["better"], metric=metric)
        (gate,) = plan.gates
        assert not gate.passed
        assert f"{metric or 'roc_auc'} " in gate.text
        assert f"{'lower' if metric else 'higher'} is better" in gate.text
        with pytest.raises(UserError, match="small@champion stays at version 2: better: "):
            registry.promote(plan)
    _promote("1")
    assert registry.plan_promotion("small", "2", require=["better"]).passed


def test_metrics_on_other_test_rows_are_not_compared(home: Path, client: MlflowClient) -> None:
    _promote("1")
    (version,) = registry.show_model("small/2")
    client.set_tag(version.run_id, "farandole.test_rows_digest", "f" * 12)
    (gate,) = registry.plan_promotion("small", "2", require=["better"]).gates
    assert not gate.passed
    assert "version 2 was measured on other test rows (ffffffff) than version 1" in gate.text
    (gate,) = registry.plan_promotion("small", "2", require=["better"], metric="lift").gates
    assert "lift: it is not known which direction is better" in gate.text


def test_model_without_an_explanation_does_not_pass(home: Path, client: MlflowClient) -> None:
    plan = registry.plan_promotion("small", "1", require=["explanation"])
    (version,) = registry.show_model("small/1")
    assert [gate.text for gate in plan.gates] == [
        f"the model has not been explained; `farandole explain {version.run_id}` does that"
    ]


def test_signed_version_passes_with_the_key_that_signed_it(home: Path, tmp_path: Path) -> None:
    key, other = tmp_path / "key.pem", tmp_path / "other.pem"
    public, other_public = create_key(key), create_key(other)
    source = registry.fetch("models:/small/1")
    signed = Path(shutil.copytree(source.path, tmp_path / "signed"))
    sign(signed, key)
    assert register_bundle(source, signed, {}, "signed") == "models:/small/3"
    for version, file, passed in (("3", public, True), ("3", other_public, False), ("1", other_public, False)):
        plan = registry.plan_promotion("small", version, require=["signature"], public_key=file)
        assert plan.passed is passed


def test_versions_are_compared(home: Path) -> None:
    found = registry.compare_models("small/1", "models:/small/2")
    assert found.comparable
    assert found.params == {"train.epochs": ("1", "3")}
    assert found.rows == {"train": (962, 962), "validation": (150, 150), "test": (150, 150)}
    assert found.metrics["roc_auc"][0] == found.first.metrics["roc_auc"]
    for size in found.sizes["total"]:
        assert size > 10_000
    with pytest.raises(RegistryError, match=r"small: names no version; write small/VERSION or small@ALIAS"):
        registry.compare_models("small", "small/2")


def test_origin_reaches_the_source_files(trained: list[RecordedRun], home: Path) -> None:
    step = registry.trace_model("models:/small/2")
    recorded = trained[1]
    assert (step.name, list(step.gaps)) == ("models:/small/2", [])
    assert step.find("bundle").name == registry.fetch("models:/small/2").digest
    assert step.find("run").name == recorded.run.info.run_id
    assert step.find("job file").facts["builder"] == "network:build"
    dataset = step.find("dataset")
    assert dataset.name == recorded.job.data.output
    assert dataset.facts["digest"] == f"sha256:{Dataset(recorded.job.data.output).manifest.digest}"
    assert dataset.facts["now"] == "unchanged"
    file = step.find("file")
    source = Path(recorded.job.data.sources["things"].path)
    assert (file.name, file.facts["bytes"]) == (str(source), source.stat().st_size)
    assert file.facts["now"] == "same size and time"
    assert step.to_dict()["steps"][1]["kind"] == "run"


def test_origin_of_a_directory_follows_its_lineage(trained: list[RecordedRun], home: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(registry.fetch_bundle("models:/small/1"), tmp_path / "bundle"))
    run_id = trained[0].run.info.run_id
    (bundle / "lineage.json").write_text(json.dumps({"mlflow_run_id": run_id}))
    write_manifest(bundle, "small")
    step = registry.trace_model(str(bundle))
    assert (step.find("run").name, step.find("file").missing) == (run_id, None)
    (home / "mlflow.db").rename(home / "away.db")
    (gap,) = registry.trace_model(str(bundle)).gaps
    assert gap.name == run_id
    assert "there is no MLflow store" in gap.missing


def test_lost_link_of_the_origin_says_why(home: Path, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    client.create_registered_model("other")
    client.create_model_version("other", (tmp_path / "other").as_uri())
    step = registry.trace_model("models:/other/1")
    assert {gap.kind: gap.missing for gap in step.gaps} == {
        "bundle": "models:/other/1: the model holds no bundle; it was logged by other means or by an earlier version of"
        " Farandole: train it again, with `farandole train JOB.yaml --register`",
        "run": "the model was registered without one",
    }


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "80"})


def test_commands_show_the_same_as_text_and_as_json(home: Path) -> None:
    assert json.loads(_run("list", "--json").stdout)[0]["newest"] == "2"
    assert [version["version"] for version in json.loads(_run("show", "small", "--json").stdout)] == ["2", "1"]
    assert json.loads(_run("show", "small/1", "--json").stdout)["uri"] == "models:/small/1"
    assert json.loads(_run("compare", "small/1", "small/2", "--json").stdout)["params"] == {"train.epochs": ["1", "3"]}
    assert json.loads(_run("trace", "models:/small/1", "--json").stdout)["complete"] is True
    for command in (["list"], ["show", "small"], ["compare", "small/1", "small/2"], ["show", "small/2"]):
        done = _run(*command)
        assert done.exit_code == 0
        assert max(len(line) for line in done.stdout.splitlines() if "things.csv" not in line) <= 80
    assert "train.epochs" in _run("compare", "small/1", "small/2").stdout
    assert "└── file:" in _run("trace", "models:/small/1").stdout


def test_promote_command_shows_what_moves_and_exits_with_2_at_a_gate(home: Path) -> None:
    dry = _run("promote", "small", "2", "--dry-run")
    assert (dry.exit_code, dry.stdout.splitlines()[0]) == (0, "small@champion: no version → version 2")
    assert registry.list_models()[0].aliases == {}
    asked = _run("promote", "small", "2")
    assert isinstance(asked.exception, UserError)
    assert "add --yes to promote" in str(asked.exception)
    assert json.loads(_run("promote", "small", "2", "--yes", "--json").stdout)["moved"] is True
    refused = _run("promote", "small", "1", "--require", "better", "--yes")
    assert refused.exit_code == 2
    assert "not moved: a gate is not passed" in refused.stdout
    assert registry.current_version("small@champion") == "2"
