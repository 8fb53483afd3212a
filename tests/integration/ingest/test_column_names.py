"""Names of columns are opaque: whatever characters they have, a dataset has exactly the values of their columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farandole.spec import Job, parse_job
from tests.support.ingest_inputs import Prepare, Refuse, columns

ODD = (
    " ", ".", "a.b", "a", "`", "a`b", "``", "*", "a.*", "a=b", "Age", "age", "AGE", "_metadata", "c0", "c1", "${HOME}",
    "'", '"', "\t", "%s", "日本", "straße", "STRASSE", "K", "\u212a", "k", "İ", "_c0", "rows", "/*", "--", "\\",
    "\ufffd", "e\u0301", "\u00e9", "x" * 300, "a,b", "null", "🧪", "label", "Unnamed: 0",
)  # fmt: skip
"""Names that mean something to Spark, SQL, Python or pandas, or that differ only in case."""
ROWS = 60


def values_of(position: int) -> np.ndarray:
    """Return the values of the column at a position: whole numbers, which each form of a number has exactly."""
    return np.arange(ROWS, dtype=np.float64) * 7 + position


def write_parquet(path: Path, names: Sequence[str]) -> None:
    arrays = [pa.array(values_of(position)) for position in range(len(names))]
    pq.write_table(pa.table(arrays, names=list(names)), path.with_suffix(".parquet"))


def write_csv(path: Path, names: Sequence[str]) -> None:
    with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(names)
        writer.writerows(zip(*map(values_of, range(len(names))), strict=True))


def write_json(path: Path, names: Sequence[str]) -> None:
    rows = zip(*map(values_of, range(len(names))), strict=True)
    lines = [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows]
    path.with_suffix(".json").write_text("".join(lines), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Sequence[str]], None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "json": write_json,
}
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1)


def job_of(folder: Path, form: str, names: Sequence[str], **data: Any) -> Job:
    """Return a job whose features f0, f1, … are these columns, unchanged."""
    features = {
        f"f{position}": {"kind": "numeric", "column": name, "scale": "none"} for position, name in enumerate(names)
    }
    source = {"path": str(folder / f"rows.{form}")}
    everything = {"sources": {"rows": source}, "features": features, "output": str(folder / "dataset"), **data}
    return parse_job({"name": "names", "data": everything})


def all_rows(dataset: Path) -> np.ndarray:
    """Return the numbers of all rows, sorted."""
    parts = [columns(dataset, split)["dense"] for split in ("train", "validation", "test")]
    rows = np.concatenate(parts)
    return rows[np.argsort(rows[:, 0])]


@pytest.mark.parametrize("form", WRITERS)
@given(drawn=st.lists(NAMES, min_size=40, max_size=40, unique=True))
@settings(max_examples=1, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_of_any_names_have_their_own_values(
    tmp_path: Path, prepare: Prepare, form: str, drawn: list[str]
) -> None:
    names = list(dict.fromkeys([*ODD, *drawn]))
    WRITERS[form](tmp_path / "rows", names)
    prepared = prepare(job_of(tmp_path, form, names, split={"by": ["a.b", "`"]}))
    wanted = np.stack([values_of(position) for position in range(len(names))], axis=1)
    assert np.array_equal(all_rows(prepared.path), wanted)


def test_every_rule_accepts_odd_names(tmp_path: Path, prepare: Prepare) -> None:
    """Use columns with odd names in a query, and in each rule on its rows."""
    names = ["Age", "age", "a.b", "`", "part of", "x=y"]
    rows = {name: values_of(position) for position, name in enumerate(names)}
    rows["part of"] = np.resize(["train", "validation", "test"], ROWS)
    rows["x=y"] = np.resize(["ann", "bob"], ROWS)
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    job = job_of(
        tmp_path,
        "parquet",
        ["Age", "age", "a.b", "`"],
        query="SELECT *, Age + age AS `a b` FROM rows",
        split={"column": "part of"},
        label={"column": "x=y", "kind": "binary"},
        expect=[
            {"kind": "range", "column": "a.b", "min": 0},
            {"kind": "unique", "columns": ["`", "Age"]},
            {"kind": "nulls", "column": "a b"},
            {"kind": "condition", "sql": "`a b` = Age + age AND age = Age + 1"},
            {"kind": "allowed", "column": "x=y", "values": ["ann"], "on_failure": "warn"},
        ],
        privacy={
            "columns": {"a.b": {"policy": "generalise", "width": 10}, "x=y": {"policy": "allow"}},
            "k_anonymity": {"columns": ["x=y"], "k": 2},
        },
    )
    prepared = prepare(job)
    found = all_rows(prepared.path)
    assert np.array_equal(found[:, 1], values_of(1))
    assert np.array_equal(found[:, 2], values_of(2) // 10 * 10)
    assert prepared.manifest.row_counts == {"train": 20, "validation": 20, "test": 20}
    entries = prepared.manifest.expectations
    assert [entry["broken"] for entry in entries] == [0, 0, 0, 0, ROWS // 2]
    assert entries[-1]["examples"] == [{"value": "bob", "rows": ROWS // 2}]


def test_sources_may_differ_only_in_case(tmp_path: Path, prepare: Prepare) -> None:
    for number, name in enumerate(["rows", "Rows"]):
        pq.write_table(pa.table({"k": np.arange(ROWS), "x": np.full(ROWS, number)}), tmp_path / f"{name}.parquet")
    job = job_of(
        tmp_path,
        "parquet",
        ["k", "x", "y"],
        sources={name: {"path": str(tmp_path / f"{name}.parquet")} for name in ("rows", "Rows")},
        query="SELECT rows.k, rows.x, Rows.x AS y FROM rows JOIN Rows ON rows.k = Rows.k",
    )
    found = all_rows(prepare(job).path)
    assert found[:, 1].max() == 0
    assert found[:, 2].min() == 1


def test_column_without_a_name_is_refused_only_if_it_is_used(tmp_path: Path, prepare: Prepare, refuse: Refuse) -> None:
    lines = [f"{number},{number * 2},{number * 3},\n" for number in range(ROWS)]
    path = tmp_path / "rows.csv"
    path.write_text(",x,y,\n" + "".join(lines))
    assert np.array_equal(all_rows(prepare(job_of(tmp_path, "csv", ["x", "y"])).path)[:, 1], np.arange(ROWS) * 3)
    job = job_of(tmp_path, "csv", ["x", "Unnamed: 0"], output=str(tmp_path / "other"))
    assert str(refuse(job)) == (f"data.features.f1: {path}: column 1 has no name; write one into the first line")
