from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.errors import SpecError
from farandole.spec import Numeric, load_job, parse_job
from tests.support.paths import ROOT

Write = Callable[..., Path]

ANCHORS = """
name: small
data:
  sources: {trips: {path: trips.csv}}
  features:
    distance: &number {kind: numeric}
    delay: *number
  label: {column: late, kind: binary}
model: {builder: "network:build"}
"""


def test_a_job_file_becomes_a_job(write: Write, tmp_path: Path) -> None:
    job = load_job(write())
    assert job.name == "small"
    assert list(job.data.features) == ["distance", "carrier", "tail", "start"]
    assert job.model.options == {"hidden": [32, 16]}
    assert job.train.epochs == 10
    assert job.folder == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\nname: b\n", "line 2: the key `name` is written twice; remove one"),
        ("name: a\ndata:\n  x: 1\n  x: 2\n", "line 4: the key `x` is written twice; remove one"),
        ("a: [1\nb: 2\n", "line 2: "),
        ("? [a]\n: 1\n", "line 1: a key must be a word"),
        ("- a\n", "contains list, not a mapping; start with `name: my-job`"),
        ("", "contains NoneType, not a mapping"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1: "),
        ("a: \x01", "special characters are not allowed"),
        ("a: 2020-13-45\n", "job.yaml: "),
    ],
    ids=["twice", "twice inside", "unclosed", "list as key", "list", "empty", "python tag", "control", "no date"],
)
def test_what_is_not_a_mapping_in_yaml_is_refused_with_its_place(write: Write, text: str, problem: str) -> None:
    path = write(text)
    with pytest.raises(SpecError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_one_key_in_two_mappings_is_not_a_duplicate(write: Write) -> None:
    assert isinstance(load_job(write(ANCHORS)).data.features["delay"], Numeric)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such file"):
        load_job(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="is a directory; give the job file in it"):
        load_job(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SpecError, match="cannot be read as UTF-8 text"):
        load_job(tmp_path / "latin.yaml")


def test_every_problem_is_told_with_the_file_in_front(write: Write, raw: dict[str, Any]) -> None:
    raw["train"] = {"epochs": 0, "epoch": 3}
    path = write()
    with pytest.raises(SpecError) as caught:
        load_job(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: train.epoch") for line in lines)


# Overrides ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.epochs=2", lambda job: job.train.epochs, 2),
        ("train.optimizer.learning_rate=1e-4", lambda job: job.train.optimizer.learning_rate, 1e-4),
        ("train.metrics=[accuracy, roc_auc]", lambda job: job.train.metrics, ("accuracy", "roc_auc")),
        ("data.split={train: 0.5, validation: 0.5, test: 0}", lambda job: job.data.split.validation, 0.5),
        ("tracking.register_as=null", lambda job: job.tracking.register_as, None),
        ("tracking.register_as=", lambda job: job.tracking.register_as, None),
        ("model.options.hidden.1=8", lambda job: job.model.options["hidden"], [32, 8]),
        ("model.options.new.deeper=a=b", lambda job: job.model.options["new"], {"deeper": "a=b"}),
        ("data.features.distance.log=true", lambda job: job.data.features["distance"].log, True),
        ("data.features.speed={kind: numeric}", lambda job: list(job.data.features)[-1], "speed"),
    ],
)
def test_an_override_sets_one_field(write: Write, override: str, read: Callable[[Any], Any], value: Any) -> None:
    assert read(load_job(write(), [override])) == value


def test_the_last_override_wins(write: Write) -> None:
    assert load_job(write(), ["train.epochs=2", "train.epochs=3"]).train.epochs == 3


def test_an_override_replaces_a_part_that_is_written_but_empty(write: Write, raw: dict[str, Any]) -> None:
    raw["train"] = None
    assert load_job(write(), ["train.epochs=2"]).train.epochs == 2


def test_an_override_leaves_the_file_as_it_is(write: Write) -> None:
    path = write()
    before = path.read_bytes()
    load_job(path, ["train.epochs=2"])
    assert path.read_bytes() == before


def test_an_override_does_not_touch_the_other_uses_of_an_anchor(write: Write) -> None:
    features = load_job(write(ANCHORS), ["data.features.distance.log=true"]).data.features
    assert (features["distance"].log, features["delay"].log) == (True, False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("train.epochs", "write FIELD.FIELD=VALUE"),
        ("=2", "write FIELD.FIELD=VALUE"),
        ("train..epochs=2", "write FIELD.FIELD=VALUE"),
        ("train.epochs=[1", "'[1' is not YAML; put quotes around it"),
        ("train.epochs={a: 1, a: 2}", "is not YAML"),
        ("model.options.hidden.2=8", "model.options.hidden is a list of 2; 2 is not an index of it"),
        ("model.options.hidden.first=8", "model.options.hidden is a list of 2; first is not an index of it"),
        ("model.options.hidden.-1=8", "-1 is not an index of it"),
        ("model.options.hidden.²=8", "² is not an index of it"),
        ("name.first=x", "name is the value 'small', which has no field first"),
    ],
)
def test_an_override_that_cannot_be_placed_is_named(write: Write, override: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_job(write(), [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert problem in str(caught.value)


def test_an_override_below_an_empty_place_of_a_list_is_set(write: Write, raw: dict[str, Any]) -> None:
    raw["model"]["options"]["layers"] = [None]
    assert load_job(write(), ["model.options.layers.0.size=1"]).model.options["layers"] == [{"size": 1}]


def test_an_override_with_an_unknown_key_is_refused_like_one_in_the_file(write: Write) -> None:
    with pytest.raises(SpecError, match=r"train\.epoch: unknown key; did you mean `epochs`\?"):
        load_job(write(), ["train.epoch=2"])


# Paths --------------------------------------------------------------------------------------------------------


def source_path(job: Any) -> str:
    return str(job.data.sources["trips"].path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trips.csv", "{folder}/trips.csv"),
        ("raw/../trips.csv", "{folder}/trips.csv"),
        ("/data/trips.csv", "/data/trips.csv"),
        ("~/trips.csv", "{home}/trips.csv"),
        ("raw/*.csv", "{folder}/raw/*.csv"),
        ("package://p/data/trips.csv", "package://p/data/trips.csv"),
        ("s3://${BUCKET:-b}/trips.csv", "s3://b/trips.csv"),
        ("${RAW}/trips.csv", "/raw/trips.csv"),
        ("${NOT_SET:-sub}/trips.csv", "{folder}/sub/trips.csv"),
    ],
)
def test_a_path_starts_from_the_folder_of_the_job_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setenv("RAW", "/raw")
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.delenv("BUCKET", raising=False)
    wanted = expected.replace("{folder}", str(tmp_path)).replace("{home}", str(Path.home()))
    assert source_path(load_job(write(), [f"data.sources.trips.path={text}"])) == wanted


def test_a_path_with_a_missing_variable_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(SpecError, match=r"data\.sources\.trips\.path: .*variable NOT_SET is not set"):
        load_job(write(), ["data.sources.trips.path=${NOT_SET}/trips.csv"])


def test_an_empty_path_is_refused(write: Write) -> None:
    with pytest.raises(SpecError, match="a path must not be empty"):
        load_job(write(), ["data.output=''"])


def test_the_name_enters_the_output_and_the_registered_model(
    write: Write, tmp_path: Path, farandole_home: Path
) -> None:
    job = load_job(write())
    assert job.data.output == str(farandole_home / "datasets" / "small")
    assert job.tracking.register_as == "small"
    job = load_job(write(), ["data.output=out/{name}-1", "tracking.register_as=team-{name}"])
    assert job.data.output == str(tmp_path / "out" / "small-1")
    assert job.tracking.register_as == "team-small"


def test_the_folder_of_the_users_modules_starts_from_the_job_file_too(write: Write, tmp_path: Path) -> None:
    assert load_job(write(), ["folder=code"]).folder == str(tmp_path / "code")


# Plain data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"train": {"schedule": {"name": "cosine", "warmup": 0.1, "final": 0.2}, "metrics": ["accuracy"]}},
        {"tracking": {"register_as": None, "uri": "http://localhost:5000"}},
        {"resources": {"workers": 3}},
    ],
)
def test_a_job_written_out_in_full_and_read_again_is_the_same_job(raw: dict[str, Any], change: dict[str, Any]) -> None:
    job = parse_job({**raw, **change})
    assert parse_job(job.model_dump(mode="json")) == job
    assert parse_job(job.model_dump(mode="json"), folder="/elsewhere") == job
    assert parse_job(yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))) == job


def test_a_job_split_by_a_column_is_the_same_after_a_round_trip(raw: dict[str, Any]) -> None:
    raw["data"]["split"] = {"column": "part"}
    job = parse_job(raw)
    assert parse_job(job.model_dump(mode="json")) == job


def test_parsing_leaves_the_given_data_as_it_is(raw: dict[str, Any]) -> None:
    before = yaml.safe_dump(raw)
    parse_job(raw)
    assert yaml.safe_dump(raw) == before


def test_numbers_with_an_exponent_are_numbers_also_where_nothing_says_so(write: Write) -> None:
    job = load_job(write(), ["train.optimizer.options={eps: 1e-8}"])
    assert job.train.optimizer.options == {"eps": 1e-8}


def test_the_example_job_breaks_no_rule() -> None:
    job = load_job(ROOT / "jobs" / "flights" / "job.yaml")
    assert job.name == "flights"
    assert job.metrics[0] == "roc_auc"


def test_what_looks_like_a_date_stays_text_and_a_short_exponent_is_a_number(write: Write) -> None:
    job = load_job(write(), ["model.options={start: 2013-01-31, rate: 1e-3}"])
    assert job.model.options == {"start": "2013-01-31", "rate": 0.001}
