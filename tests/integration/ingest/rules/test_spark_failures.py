"""Preparations that fail: one message that a user can act on, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from farandole.errors import DataError, PreparationError
from farandole.ingest.rules.spark_failures import explain_failure
from tests.support.ingest_inputs import HEADER, SMALL, MakeJob, Prepare, Refuse, Write, verify

AT = HEADER + "".join(f"{number},1.5,2013-01-{number % 28 + 1:02d} 10:00:00,{number % 2}\n" for number in range(60))
TIMES = {"columns": {"id": "int", "size": "double", "color": "timestamp", "bought": "int"}}
TIME_FEATURES = {"features": {"color": {"kind": "time", "parts": ["hour"]}}}


def test_parquet_text_that_is_not_utf_8_is_reported_with_its_file(
    make_job: MakeJob, refuse: Refuse, tmp_path: Path
) -> None:
    numbers = list(range(60))
    texts = pa.array([b"caf\xe9" if number == 7 else b"a" for number in numbers], pa.binary())
    table = {"size": [1.5] * 60, "color": texts.view(pa.string()), "bought": [number % 2 for number in numbers]}
    path = tmp_path / "a +%20b.parquet"
    pq.write_table(pa.table(table), path)
    error = refuse(make_job(rows={"path": path.name, "columns": ...}))
    assert isinstance(error, DataError)
    assert str(error) == f"{path}: column color: holds text that is not UTF-8; write the file again"


# Rows -------------------------------------------------------------------------------------------------------


def test_text_in_a_number_column_is_reported_with_its_rows(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    path = write("with space.csv", HEADER + SMALL + "60,NA,a,1\n61,NA,b,0\n62,-,c,1\n")
    error = refuse(make_job(rows={"path": "with space.csv"}))
    assert str(error) == (
        f"{path}: line 62: column size: 'NA', '-' in 3 rows is not double; if it means a missing value, write"
        ' `null_values: ["NA"]` in data.sources.rows, or declare the column as string, or set `malformed: drop` or'
        " `quarantine` of the source"
    )
    assert error.detail is not None
    assert "MalformedRow" in error.detail


def test_every_wrong_column_has_its_own_line(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    write("b.csv", HEADER + "60,y,a,1\n" + SMALL + "x,y,a,1\n")
    lines = str(refuse(make_job(rows={"path": "b.csv"}))).splitlines()
    assert [line.split(": ")[1:4] for line in lines] == [
        ["line 2", "column size", "'y' in 1 row is not double; if it means a missing value, write `null_values"],
        ["line 63", "column id", "'x' in 1 row is not int; if it means a missing value, write `null_values"],
    ]


@pytest.mark.parametrize(
    ("rows", "line", "found", "shown", "count"),
    [
        (SMALL + "60,1,a,1,9\n61,1,a,1,9\n", 62, "5 fields where there are 4 columns", "60,1,a,1,9", 2),
        ("60,1\n" + SMALL, 2, "2 fields where there are 4 columns", "60,1", 1),
        (SMALL + '60,1,"a,1\n', 62, "a quote out of place", '60,1,"a,1', 1),
    ],
    ids=["too many", "too few", "an open quote"],
)
def test_row_of_another_shape_is_reported_with_its_line(
    write: Write, make_job: MakeJob, refuse: Refuse, rows: str, line: int, found: str, shown: str, count: int
) -> None:
    path = write("small.csv", HEADER + rows)
    # The malformed column is not used.
    message = str(refuse(make_job(rows={"columns": {"size": "double", "color": "string", "bought": "int"}})))
    assert message.startswith(f"{path}: line {line}: {found}: {shown!r} ({count} such row{'s' if count > 1 else ''}); ")
    assert message.endswith(", or set `malformed: drop` or `quarantine` of the source")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("yesterday", None),
        ("12:30", None),
        ("2013-13-01 10:00:00", None),
        ("2013-01-01T10:00:00Z", "yyyy-MM-dd HH:mm:ss"),
    ],
    ids=["words", "a time without a date", "no such month", "another pattern"],
)
def test_malformed_timestamp_is_reported(
    write: Write, make_job: MakeJob, refuse: Refuse, text: str, pattern: str | None
) -> None:
    path = write("small.csv", AT + f"60,1.5,{text},1\n")
    error = refuse(make_job(TIME_FEATURES, rows={**TIMES, "timestamp_format": pattern}))
    assert str(error).startswith(
        f"{path}: line 62: column color: {text!r} in 1 row is not timestamp; if it means a missing"
    )


# Files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "{path}: is empty; data.sources.rows needs a first line with the column names"),
        ("id,size,colour,bought\n" + SMALL, "{path}: the header has no column color, declared in data.sources.rows;"),
        ("id,size,size,color,bought\n" + SMALL, "{path}: the header names size twice; fix the first line"),
        (HEADER, "data: the sources and the query give no rows; look at the files and at the query's WHERE"),
        (HEADER.replace("id", "\xefd").encode("latin-1"), "{path}: the header is not UTF-8 text ("),
    ],
    ids=["empty", "wrong header", "repeated header", "header alone", "not UTF-8"],
)
def test_a_file_that_is_not_as_declared_is_refused(
    write: Write, make_job: MakeJob, refuse: Refuse, content: str | bytes, expected: str
) -> None:
    path = write("small.csv", content)
    assert str(refuse(make_job())).startswith(expected.format(path=path))


def test_files_with_different_headers_are_refused(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    write("d/a.csv")
    second = write("d/b.csv", "id,size,bought,color\n0,0,0,a\n")
    assert str(refuse(make_job(rows={"path": "d", "format": "csv", "columns": ...}))).startswith(
        f"{second}: the header is id, size, bought, color, that of a.csv is id, size, color, bought;"
    )


@pytest.mark.parametrize("path", ["smal.csv", "package://no_such_package/a.csv"])
def test_missing_path_is_refused(write: Write, make_job: MakeJob, refuse: Refuse, path: str) -> None:
    write()
    message = str(refuse(make_job(rows={"path": path})))
    assert message.startswith("data.sources.rows.path: ")
    assert path in message


def test_a_broken_archive_is_refused(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    path = write("a.csv.zip", b"PK\x03\x04 and no more")
    assert str(refuse(make_job(rows={"path": "a.csv.zip"}))).startswith(
        f"data.sources.rows.path: {path}: is not a whole zip archive"
    )


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    small = {"size": [float(number) for number in range(60)], "color": ["a"] * 60, "bought": [0, 1] * 30}
    pq.write_table(pa.table({**small, **columns}), path, compression=None, use_dictionary=False)
    return path


PARQUET = {"format": "parquet", "columns": ...}


def test_truncated_parquet_file_is_refused(make_job: MakeJob, refuse: Refuse, tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    message = str(refuse(make_job(rows={"path": "a.parquet", **PARQUET})))
    assert message.startswith(f"{path}: is not a whole Parquet file (")


def test_a_parquet_file_with_damaged_pages_is_named(make_job: MakeJob, refuse: Refuse, tmp_path: Path) -> None:
    path = parquet(tmp_path / "a b.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 400 + content[404:])
    message = str(refuse(make_job(rows={"path": "a b.parquet", **PARQUET})))
    assert message.startswith(f"{path}: cannot be read: ")
    assert message.endswith("; write the file again")


def test_a_parquet_file_with_another_type_than_the_others_is_named(
    make_job: MakeJob, refuse: Refuse, tmp_path: Path
) -> None:
    parquet(tmp_path / "d" / "1.parquet")
    path = parquet(tmp_path / "d" / "2.parquet", size=["x"] * 60)
    assert str(refuse(make_job(rows={"path": "d", **PARQUET}))) == (
        f"{path}: column size is byte array String, in 1.parquet it is double; all files of a source need the same"
        " types: write the file again"
    )


def test_a_parquet_file_without_a_declared_column_is_refused(make_job: MakeJob, refuse: Refuse, tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    message = str(refuse(make_job(rows={"path": "a.parquet", "format": "parquet", "columns": ["bougth"]})))
    assert message == "data.sources.rows.columns: the files have no column bougth; did you mean bought?"


# The query and the features ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELEC * FROM rows", "data.query: Syntax error at or near 'SELEC'. (line 1, pos 0)"),
        (
            "SELECT sise FROM rows",
            "data.query: A column, variable, or function parameter with name"
            " `sise` cannot be resolved. Did you mean one of the following? [`id`, `size`, `color`,",
        ),
        ("SELECT *, rand() AS r FROM rows", "data.query: uses a function whose value changes"),
        ("SELECT * FROM rows WHERE false", "data: the sources and the query give no rows; look at the files and"),
        (
            "SELECT size AS sise, color, bought FROM rows",
            "data.features.size: the query gives no column size; did you mean sise?",
        ),
        (
            "SELECT id / (id - id) AS size, color, bought FROM rows",
            "data.query: Division by zero. Use `try_divide` to tolerate divisor being 0",
        ),
        (
            "SELECT cast(color AS int) AS size, color, bought FROM rows",
            'data.query: The value \'a\' of the type "STRING" cannot be cast to "INT"',
        ),
        (
            "SELECT color AS size, color, bought FROM rows",
            "column size: 'a' is not a number, as the features and the label need it; if it means a missing value,",
        ),
        (
            "SELECT size, map(color, 1) AS color, bought FROM rows",
            "features.color: column color: a column of type map<string,int> cannot be a feature; cast it in the query",
        ),
        (
            "SELECT size, null AS color, bought FROM rows",
            "features.color: column color: a column of type void cannot be a feature; cast it in the query",
        ),
        (
            "SELECT if(id = 3 OR bought = 1, double('-inf'), size) AS size, color, bought FROM rows",
            "features.size: column size: ",
        ),
        ("SELECT size, color, nullif(bought, 1) AS bought FROM rows", "label: column bought: "),
        ("SELECT size, color, 1 AS bought FROM rows", "label: column bought: all "),
        (
            "SELECT size, color, id % 3 AS bought FROM rows",
            "label: column bought: 3 values (0, 1, 2); a binary label has two: use `kind: multiclass`, or compare",
        ),
    ],
)
def test_query_without_a_valid_dataset_is_refused(
    write: Write, make_job: MakeJob, refuse: Refuse, query: str, expected: str
) -> None:
    write()
    message = str(refuse(make_job({"query": query})))
    assert message.startswith(expected)
    assert "\n" not in message
    for part, tail in {
        "-inf": "make it missing or finite in the query",
        "nullif": "have no label; filter them out in the query: WHERE bought IS NOT NULL",
        "1 AS bought": "a binary label needs two classes: fix the query or the label",
    }.items():
        assert message.endswith(tail) or part not in query


def test_a_split_without_rows_is_refused(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    write()
    error = refuse(make_job({"split": {"train": 0.8, "validation": 0.0001, "test": 0.1999}}))
    assert str(error) == (
        "data.split.validation: no row of 60 falls into it (share 0.0001); give it a greater share, more rows,"
        " or a `by` with more different values"
    )


def test_a_split_column_with_another_word_is_refused(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    write()
    query = "SELECT size, color, bought, if(id < 50, 'train', 'tset') AS part FROM rows"
    error = refuse(make_job({"query": query, "split": {"column": "part"}}))
    assert str(error).startswith(
        "data.split.column: part: 10 rows are not one of train, validation, test; fix the query"
    )


# The machine ------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_full_disk_is_reported_with_the_directory(
    write: Write, make_job: MakeJob, refuse: Refuse, prepare: Prepare, tiny_disk: Path
) -> None:
    write()
    small = prepare(make_job({"output": str(tiny_disk / "small")}))
    query = "SELECT size + n AS size, color, bought FROM rows, (SELECT explode(sequence(1, 600)) AS n)"
    error = refuse(make_job({"query": query, "output": str(tiny_disk / "large")}), exit_code=1)
    assert type(error) is PreparationError
    assert str(error).startswith(f"data.output: {tiny_disk}/large: No space left on device; free some space")
    verify(small.path)


def test_output_that_cannot_be_created_is_reported(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    path = write()
    with pytest.raises(PreparationError) as caught:
        prepare(make_job({"output": "small.csv/dataset"}))
    assert str(caught.value) == (
        f"data.output: {path}/dataset: Not a directory; choose a directory that you may write to"
    )


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "Job aborted: java.io.IOException: No space left on device\n\tat org.apache.spark.X",
            PreparationError,
            "data: the disk with Spark's scratch space is full; free some space, or point SPARK_LOCAL_DIRS at another"
            " disk",
        ),
        (
            "Job aborted: java.lang.OutOfMemoryError: heap\n\tat X",
            PreparationError,
            "data.memory: 2g was not enough; give Spark more",
        ),
        (
            "An error occurred while calling o1.collect\n: X: [SOME_RULE.SUB] It broke. SQLSTATE: 12345\n\tat X",
            PreparationError,
            "data: Spark failed: It broke.; see --debug",
        ),
        (
            'x @farandole-error {"kind": "DataError", "message": "label: no"}\n\tat X',
            DataError,
            "label: no",
        ),
    ],
)
def test_failure_of_spark_itself_is_explained_in_one_line(
    spark: SparkSession, write: Write, make_job: MakeJob, text: str, kind: type[Exception], message: str
) -> None:
    from farandole.ingest.sources.files import find_files

    write()
    job = make_job()
    files = {name: find_files(name, source).fetch() for name, source in job.data.sources.items()}
    error = explain_failure(PySparkException(text), spark.newSession(), job, files).error
    assert type(error) is kind
    assert str(error) == message
    assert error.detail is not None
    assert "\tat " in error.detail
