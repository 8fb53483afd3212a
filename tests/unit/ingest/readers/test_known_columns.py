"""Columns that a job uses and its files lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.errors import DataError
from farandole.ingest.readers.known_columns import check_columns
from farandole.ingest.sources.files import find_files
from farandole.spec import Job, parse_job


def _job(source: dict[str, Any], *features: str, label: str = "late", **data: Any) -> Job:
    sources = data.pop("sources", {"rows": source})
    described = {name: {"kind": "numeric"} for name in features}
    label_field = {"column": label, "kind": "binary"}
    return parse_job(
        {"name": "small", "data": {"sources": sources, "features": described, "label": label_field, **data}}
    )


def _problems(job: Job) -> list[str]:
    files = {name: find_files(name, source) for name, source in job.data.sources.items()}
    try:
        check_columns(job.data, files)
    except DataError as error:
        return str(error).splitlines()
    return []


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Any]:
    """Return a CSV source with the columns size, late."""
    (tmp_path / "rows.csv").write_text("size,late\n1,0\n")
    return {"path": str(tmp_path / "rows.csv")}


def test_all_columns_that_the_header_lacks_are_reported_with_the_nearest_name(rows: dict[str, Any]) -> None:
    assert _problems(_job(rows, "size")) == []
    assert _problems(_job(rows, "sise", "colour", label="lat")) == [
        "data.features.sise: the files of the source have no column sise; did you mean size?",
        "data.features.colour: the files of the source have no column colour; they have size, late",
        "data.label.column: the files of the source have no column lat; did you mean late?",
    ]


def test_columns_are_those_that_the_source_declares(rows: dict[str, Any]) -> None:
    declared = {**rows, "columns": {"late": "int"}}
    (problem,) = _problems(_job(declared, "size"))
    assert problem == "data.features.size: the files of the source have no column size; they have late"


def test_parquet_footers_and_directories_count(tmp_path: Path) -> None:
    folder = tmp_path / "rows" / "year=2020"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"size": [1.0], "late": [0]}), folder / "part.parquet")
    source = {"path": str(tmp_path / "rows"), "format": "parquet"}
    assert _problems(_job(source, "size", "year")) == []
    (problem,) = _problems(_job(source, "size", "yaer"))
    assert problem == "data.features.yaer: the files of the source have no column yaer; did you mean year?"


def test_directory_columns_may_be_declared(tmp_path: Path) -> None:
    folder = tmp_path / "rows" / "y%20ear=2020"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("size,late\n1,0\n")
    source = {"path": str(tmp_path / "rows"), "format": "csv"}
    columns = {"size": "int", "late": "int"}
    assert _problems(_job(source, "size")) == []
    assert _problems(_job({**source, "columns": {**columns, "y ear": "int"}}, "size")) == []
    (problem,) = _problems(_job({**source, "columns": columns}, "size", split={"by": ["y ear"]}))
    assert problem == "data.split.by: the files of the source have no column y ear; they have size, late"


def test_query_may_make_columns(rows: dict[str, Any]) -> None:
    query = "SELECT size * 2 AS twice, late FROM rows"
    assert _problems(_job(rows, "twice", query=query)) == []
    assert _problems(_job(rows, "twise", query=query)) == [
        "data.features.twise: the files of the source have no column twise, and the query does not make one; they have"
        " size, late"
    ]
    assert _problems(_job(rows, "col", query="SELECT explode(array(1)), late FROM rows")) == []


def test_transform_nested_columns_and_undeclared_json_may_give_anything(rows: dict[str, Any], tmp_path: Path) -> None:
    assert _problems(_job(rows, "colour", transform="clean:clean")) == []
    pq.write_table(pa.table({"a": [{"colour": 1}]}), tmp_path / "nested.parquet")
    assert _problems(_job({"path": str(tmp_path / "nested.parquet")}, "colour")) == []
    (tmp_path / "rows.jsonl").write_text('{"size": 1}\n')
    assert _problems(_job({"path": str(tmp_path / "rows.jsonl")}, "colour")) == []


def test_columns_of_several_sources_are_taken_together(rows: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("weight\n1\n")
    sources = {"rows": rows, "more": {"path": str(tmp_path / "more.csv")}}
    query = "SELECT * FROM rows CROSS JOIN more"
    assert _problems(_job({}, "size", "weight", query=query, sources=sources)) == []
    (problem,) = _problems(_job({}, "size", "wieght", query=query, sources=sources))
    assert problem.startswith("data.features.wieght: the files of the sources have no column wieght, and the query")
    assert problem.endswith("did you mean weight?")
