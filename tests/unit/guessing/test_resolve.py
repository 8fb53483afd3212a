"""`features: auto` and `kind: auto`: what the files suggest, and what the dataset says afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import farandole
from farandole.errors import SpecError, UserError
from farandole.guessing.resolve import resolve_from_manifest, resolve_guesses
from farandole.preprocess import Preprocessing
from farandole.spec import Job, load_job, parse_job, save_job

_ROWS = "".join(f"{number},{number % 7 + 0.5},{'ab'[number % 2]},{number % 3 == 0}\n" for number in range(60))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "trips.csv"
    path.write_text("id,fare,zone,late\n" + _ROWS)
    return path


def _job(table: Path, **data: Any) -> Job:
    raw = {"name": "trips", "data": {"sources": {"trips": {"path": str(table)}}, "label": "late"} | data}
    return parse_job(raw, folder=table.parent)


def test_every_column_but_the_label_becomes_a_feature(table: Path) -> None:
    resolved = resolve_guesses(_job(table, features="auto"))
    assert {name: feature.kind for name, feature in resolved.job.data.features.items()} == {
        "fare": "numeric",
        "zone": "categorical",
    }
    assert {entry.column for entry in resolved.left_out} == {"id"}
    label = resolved.job.data.label
    assert label is not None
    assert label.kind == "binary"
    assert not resolved.job.data.is_guessed
    assert resolve_guesses(resolved.job).job == resolved.job


def test_named_features_and_left_out_columns_win_over_guesses(table: Path) -> None:
    resolved = resolve_guesses(_job(table, features={"auto": True, "id": {"kind": "bucket"}, "zone": False}))
    assert {name: feature.kind for name, feature in resolved.job.data.features.items()} == {
        "fare": "numeric",
        "id": "bucket",
    }


def test_column_that_is_left_out_must_exist(table: Path) -> None:
    with pytest.raises(SpecError, match=r"data.features.zones: false .* there is no column zones; did you mean zone\?"):
        resolve_guesses(_job(table, features={"auto": True, "zones": False}))


def test_label_that_does_not_exist_is_named(table: Path) -> None:
    with pytest.raises(SpecError, match=r"data.label: there is no column lat; did you mean late\?"):
        resolve_guesses(_job(table, features="auto", label="lat"))


def test_job_without_guesses_reads_no_file(table: Path) -> None:
    job = _job(table, features={"fare": "numeric"}, label={"column": "late", "kind": "binary"})
    table.unlink()
    assert resolve_guesses(job).job is job


def test_query_that_changes_columns_is_refused(table: Path) -> None:
    with pytest.raises(UserError, match=r"data.features: auto .* data.query changes; list the features"):
        resolve_guesses(_job(table, features="auto", query="SELECT fare, late FROM trips"))


def test_query_that_leaves_out_rows_is_accepted(table: Path) -> None:
    resolved = resolve_guesses(_job(table, features="auto", query="SELECT * FROM trips WHERE fare > 1"))
    assert list(resolved.job.data.features) == ["fare", "zone"]


def test_query_that_replaces_columns_is_accepted_where_these_are_named(table: Path) -> None:
    query = "SELECT * EXCEPT (fare), fare * 2 AS fare FROM trips"
    with pytest.raises(SpecError, match=r"data.features: auto guesses from column fare .* changes; name its feature"):
        resolve_guesses(_job(table, features="auto", query=query))
    for features in ({"auto": True, "fare": "bucket"}, {"auto": True, "fare": False}):
        assert "zone" in resolve_guesses(_job(table, features=features, query=query)).job.data.features


def test_label_that_a_query_replaces_needs_a_kind(table: Path) -> None:
    query = "SELECT * EXCEPT (late), NOT late AS late FROM trips WHERE fare > 1"
    with pytest.raises(SpecError, match=r"data.label.kind: auto guesses from column late .* write binary, multiclass"):
        resolve_guesses(_job(table, features="auto", query=query))
    label = {"column": "late", "kind": "binary"}
    assert list(resolve_guesses(_job(table, features="auto", query=query, label=label)).job.data.features) == [
        "fare",
        "zone",
    ]


def test_columns_without_a_name_are_mentioned(table: Path) -> None:
    table.write_text("id,fare,,late\n" + _ROWS)
    (entry,) = (entry for entry in resolve_guesses(_job(table, features="auto")).left_out if "column" in entry.column)
    assert (entry.column, entry.reason) == ("(column 3)", "has no name; write one into the first line to use it")


def test_policy_that_makes_text_of_a_column_makes_its_feature_a_category(table: Path) -> None:
    job = _job(table, features="auto", privacy={"columns": {"fare": {"policy": "mask"}}})
    assert resolve_guesses(job).job.data.features["fare"].kind == "categorical"


def test_column_that_a_policy_drops_becomes_no_feature(table: Path) -> None:
    job = _job(table, features="auto", privacy={"columns": {"zone": {"policy": "drop"}}})
    assert list(resolve_guesses(job).job.data.features) == ["fare"]


def test_job_written_out_and_read_back_is_still_open(table: Path) -> None:
    job = _job(table, features={"auto": True, "zone": False})
    assert parse_job(job.model_dump(mode="json"), folder=table.parent) == job


def test_training_takes_the_features_from_the_dataset(table: Path) -> None:
    job = _job(table, features="auto")
    resolved = resolve_guesses(job).job
    table.unlink()  # the sources need not be within reach where a model is trained

    class _Manifest:
        preprocessing = Preprocessing.from_spec(resolved.data).to_dict()

    again = resolve_from_manifest(job, _Manifest())  # type: ignore[arg-type]
    assert again.data.features == resolved.data.features
    assert again.data.label == resolved.data.label


def test_open_job_survives_its_file(table: Path) -> None:
    job = _job(table, features={"auto": True, "zone": False})
    assert load_job(save_job(job, table.parent / "job.yaml")) == job


def test_python_has_the_command_too(table: Path) -> None:
    path = farandole.init(str(table), label="late", output=table.parent / "new")
    assert path == table.parent / "new" / "job.yaml"
    assert list(load_job(path).data.features) == ["fare", "zone"]
    with pytest.raises(UserError, match="exists already"):
        farandole.init(str(table), label="late", output=table.parent / "new")
