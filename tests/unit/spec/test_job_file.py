from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.errors import SpecError
from farandole.spec import Numeric, load_job, parse_job, save_job
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


def test_job_file_becomes_a_job(write: Write, tmp_path: Path) -> None:
    job = load_job(write())
    assert job.name == "small"
    assert list(job.data.features) == ["distance", "carrier", "tail", "start"]
    assert job.network.options == {"hidden": [32, 16]}
    assert job.train.epochs == "auto"
    assert job.folder == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\nname: b\n", "line 2: the key `name` is written twice; remove one"),
        ("name: a\ndata:\n  x: 1\n  x: 2\n", "line 4: the key `x` is written twice; remove one"),
        ("a: [1\nb: 2\n", "line 1: a: [1: a bracket is not closed"),
        ("? [a]\n: 1\n", "line 1: a key must be a word"),
        ("- a\n", "holds a list, not fields; start with `name: my-job`"),
        ("", "is empty; start with `name: my-job`"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1: "),
        ("a: \x01", "line 1: holds the character U+0001, which YAML does not allow; remove it"),
        ("a: 2020-13-45\n", "job.yaml: "),
    ],
    ids=["twice", "twice inside", "unclosed", "list as key", "list", "empty", "python tag", "control", "no date"],
)
def test_invalid_yaml_is_rejected_with_its_location(write: Write, text: str, problem: str) -> None:
    path = write(text)
    with pytest.raises(SpecError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_same_key_in_two_mappings_is_not_a_duplicate(write: Write) -> None:
    assert isinstance(load_job(write(ANCHORS)).data.features["delay"], Numeric)


def test_unreadable_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such file"):
        load_job(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="is a directory; give the job file in it"):
        load_job(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SpecError, match="line 1: byte 0xe9 is not UTF-8 text; save the file as UTF-8"):
        load_job(tmp_path / "latin.yaml")


def test_every_problem_is_reported_with_the_file_name(write: Write, raw: dict[str, Any]) -> None:
    raw["train"] = {"epochs": 0, "epoch": 3}
    path = write()
    with pytest.raises(SpecError) as caught:
        load_job(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: train.epoch") for line in lines)


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
def test_relative_path_starts_from_the_folder_of_the_job_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setenv("RAW", "/raw")
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.delenv("BUCKET", raising=False)
    wanted = expected.replace("{folder}", str(tmp_path)).replace("{home}", str(Path.home()))
    assert source_path(load_job(write(), [f"data.sources.trips.path={text}"])) == wanted


def test_path_with_an_unset_variable_is_rejected(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(SpecError, match=r"data\.sources\.trips\.path: .*variable NOT_SET is not set"):
        load_job(write(), ["data.sources.trips.path=${NOT_SET}/trips.csv"])


def test_empty_path_is_rejected(write: Write) -> None:
    with pytest.raises(SpecError, match="a path must not be empty"):
        load_job(write(), ["data.output=''"])


def test_name_is_inserted_into_the_output_and_the_registered_model(
    write: Write, tmp_path: Path, farandole_home: Path
) -> None:
    job = load_job(write())
    assert job.data.output == str(farandole_home / "datasets" / "small")
    assert job.tracking.register_as == "small"
    job = load_job(write(), ["data.output=out/{name}-1", "tracking.register_as=team-{name}"])
    assert job.data.output == str(tmp_path / "out" / "small-1")
    assert job.tracking.register_as == "team-small"


def test_folder_of_user_modules_starts_from_the_job_file(write: Write, tmp_path: Path) -> None:
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
def test_job_survives_a_round_trip_in_full(raw: dict[str, Any], change: dict[str, Any]) -> None:
    job = parse_job({**raw, **change})
    assert parse_job(job.model_dump(mode="json")) == job
    assert parse_job(job.model_dump(mode="json"), folder="/elsewhere") == job
    assert parse_job(yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))) == job


def test_job_split_by_a_column_survives_a_round_trip(raw: dict[str, Any]) -> None:
    raw["data"]["split"] = {"column": "part"}
    job = parse_job(raw)
    assert parse_job(job.model_dump(mode="json")) == job


def test_parsing_does_not_modify_its_input(raw: dict[str, Any]) -> None:
    before = yaml.safe_dump(raw)
    parse_job(raw)
    assert yaml.safe_dump(raw) == before


def test_numbers_with_an_exponent_are_parsed_in_free_form_options(write: Write) -> None:
    job = load_job(write(), ["train.optimizer.options={eps: 1e-8}"])
    assert job.train.optimizer.options == {"eps": 1e-8}


def test_example_job_is_valid() -> None:
    job = load_job(ROOT / "jobs" / "flights" / "job.yaml")
    assert job.name == "flights"
    assert job.metrics[0] == "roc_auc"


def test_date_like_text_stays_text_and_short_exponent_is_a_number(write: Write) -> None:
    job = load_job(write(), ["model.options={start: 2013-01-31, rate: 1e-3}"])
    assert job.network.options == {"start": "2013-01-31", "rate": 0.001}


JOBS = sorted((ROOT / "jobs").glob("*/job.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.parent.name)
def test_saved_job_loads_as_the_same_job(path: Path, tmp_path: Path) -> None:
    job = load_job(path)
    assert load_job(save_job(job, tmp_path / "again.yaml")) == job


def test_fields_with_default_values_are_left_out(raw: dict[str, Any], tmp_path: Path) -> None:
    job = parse_job(raw, folder=tmp_path)
    saved = yaml.safe_load(save_job(job, tmp_path / "job.yaml").read_text(encoding="utf-8"))
    expected = {
        **raw,
        "data": {**raw["data"], "sources": {"trips": {"format": "csv", "path": str(tmp_path / "trips.csv")}}},
    }
    assert saved == expected
    assert list(saved) == ["name", "data", "model"]


def test_multiline_query_stays_readable(raw: dict[str, Any], tmp_path: Path) -> None:
    query = "SELECT *\nFROM trips\nWHERE late IS NOT NULL\n"
    job = parse_job({**raw, "data": {**raw["data"], "query": query}})
    text = save_job(job, tmp_path / "job.yaml").read_text(encoding="utf-8")
    assert "  query: |\n    SELECT *\n    FROM trips\n" in text
    assert "    distance: {kind: numeric}\n" in text
    assert load_job(tmp_path / "job.yaml").data.query == query


def test_job_saved_elsewhere_keeps_its_folder(raw: dict[str, Any], tmp_path: Path) -> None:
    job = parse_job(raw, folder=tmp_path)
    (tmp_path / "sub").mkdir()
    again = load_job(save_job(job, tmp_path / "sub" / "job.yaml"))
    assert again == job
    assert again.folder == str(tmp_path)


def test_existing_file_is_replaced_without_leftovers(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: other")
    save_job(parse_job(raw), tmp_path / "job.yaml")
    assert load_job(tmp_path / "job.yaml").name == "small"
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_unwritable_path_is_reported(raw: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none/job\.yaml: cannot be written \(No such file or directory\); choose"):
        save_job(parse_job(raw), tmp_path / "none" / "job.yaml")
