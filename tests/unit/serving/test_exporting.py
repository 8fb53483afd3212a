"""The model of a job, and a query that does not travel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.events import Event, Message
from farandole.serving.exporting import _model_of_job, _query_writer, _write_query
from farandole.spec import parse_job
from tests.support.bundles import write_small_bundle


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))
    directory = tmp_path / "jobs" / "small-20260101-000000-abcd"
    directory.mkdir(parents=True)
    (directory / "job.json").write_text("{}")
    return directory


def test_a_job_stands_for_its_model_by_id_and_by_directory(job: Path) -> None:
    (job / "result.json").write_text(json.dumps({"model": {"uri": "models:/small/1"}}))
    assert _model_of_job(job.name) == "models:/small/1"
    assert _model_of_job(str(job)) == "models:/small/1"


def test_a_job_that_has_not_succeeded_has_no_model(job: Path) -> None:
    with pytest.raises(SpecError, match="the job has no model; `farandole logs small-20260101-000000-abcd`"):
        _model_of_job(job.name)


@pytest.mark.parametrize("text", ["models:/a/1", "runs:/1/model", "no-such-job", "./folder", "."])
def test_other_texts_are_not_jobs(job: Path, text: str) -> None:
    assert _model_of_job(text) is None


def test_a_bundle_without_lineage_has_no_query_and_a_warning(tmp_path: Path) -> None:
    events: list[Event] = []
    assert _query_writer(write_small_bundle(tmp_path / "b"), 10, events.append) is None
    (event,) = events
    assert isinstance(event, Message)
    assert "its query does not travel" in event.text


def test_a_query_that_does_not_travel_is_reported(tmp_path: Path) -> None:
    document = {
        "name": "a",
        "data": {
            "sources": {"a": {"path": "/no-such.csv", "columns": {"x": "int", "y": "int"}}},
            "query": "SELECT sum(x) AS x, y FROM a GROUP BY y",
            "features": {"x": "numeric"},
        },
    }
    events: list[Event] = []
    _write_query(parse_job(document), ("x",), 10, tmp_path, events.append)
    assert list(tmp_path.iterdir()) == []
    (event,) = events
    assert isinstance(event, Message)
    assert "does not travel" in event.text
