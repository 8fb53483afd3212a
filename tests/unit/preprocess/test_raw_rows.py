"""A row of a source becomes the same values in serving as in training, in whatever form it is sent."""

from __future__ import annotations

import datetime
import io
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.readers.json_types import arrow_json_type
from farandole.preprocess.raw_rows import RawForm, convert_column, find_forms
from farandole.preprocess.values import arrow_type
from farandole.spec import CsvSource, JsonSource, ParquetSource

NULLS = ("NA", "-999")
TIMES = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2100, 1, 1)).map(
    lambda t: t.replace(microsecond=0)
)
TEXTS: dict[str, st.SearchStrategy[str]] = {
    "boolean": st.sampled_from(["true", "false", "True", "no", "1", "0"]),
    "int": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    "double": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "decimal(8,2)": st.decimals("-99999", "99999", places=2).map(str),
    "string": st.text(st.characters(codec="utf-8", exclude_characters='\r\n"\0,\ufeff'), min_size=1, max_size=8),
    "date": TIMES.map(lambda time: time.date().isoformat()),
    "timestamp": st.tuples(TIMES, st.sampled_from(["", "Z", "+02:00", "-0530"])).map(
        lambda pair: pair[0].isoformat() + pair[1]
    ),
}
"""Type to texts of that type, as a CSV file may hold them."""


def _source(**fields: Any) -> CsvSource:
    return CsvSource(path="/a.csv", null_values=NULLS, **fields)


def _read(path: Path, source: CsvSource, kind: str, texts: list[str]) -> pa.Array:
    """Read texts as training does."""
    path.write_text("c,end\n" + "".join(f"{text},1\n" for text in texts), encoding="utf-8")
    reader = CsvReader(source, ("c", "end"), {"c": kind})
    (found,) = list(reader.read(ByteRange(path, 0, path.stat().st_size)))
    assert not found.malformed
    return found.batch.column(0)


def _same(first: pa.Array, second: pa.Array) -> bool:
    return first.type == second.type and first.to_pylist() == second.to_pylist()


@pytest.mark.parametrize("kind", list(TEXTS))
def test_texts_of_a_csv_file_are_read_as_in_training(kind: str, tmp_path: Path) -> None:
    form = find_forms({"a": _source()}, ["c"])["c"]

    @settings(max_examples=40)
    @given(st.lists(TEXTS[kind] | st.sampled_from(["", *NULLS]), min_size=1, max_size=5))
    def check(texts: list[str]) -> None:
        expected = _read(tmp_path / "a.csv", _source(), kind, texts)
        forms: list[Any] = [texts, np.array(texts, object), pd.Series(texts), pd.Series(texts, dtype="category")]
        forms.append(json.loads(json.dumps(texts)))
        for values in forms:
            assert _same(convert_column("c", values, kind, form), expected)

    check()


@pytest.mark.parametrize("kind", list(TEXTS))
def test_typed_values_are_those_of_training(kind: str, tmp_path: Path) -> None:
    """The values that training read stay the same when Python or pandas hands them back."""
    form = find_forms({"a": _source()}, ["c"])["c"]

    @settings(max_examples=40)
    @given(st.lists(TEXTS[kind] | st.just(""), min_size=1, max_size=5))
    def check(texts: list[str]) -> None:
        expected = _read(tmp_path / "a.csv", _source(), kind, texts)
        values = expected.to_pylist()
        forms: list[Any] = [values, np.array(values, object), pd.Series(values, dtype=object)]
        forms += [pd.Series(values, dtype="category"), expected.to_pandas(types_mapper=pd.ArrowDtype)]
        if kind != "bigint":  # pandas turns whole numbers with gaps into inexact ones
            forms += [expected.to_pandas(), pd.Series(values)]
        if kind == "bigint":
            forms += [pd.Series(values, dtype="Int64")]
        for sent in forms:
            assert _same(convert_column("c", sent, kind, form), expected), sent

    check()


@given(st.lists(st.integers(-(2**53) + 1, 2**53 - 1) | st.none(), min_size=1, max_size=5))
def test_whole_numbers_with_gaps_arrive_as_floats_and_stay_whole(numbers: list[int | None]) -> None:
    expected = pa.array(numbers, pa.int64())
    form = RawForm(("",))
    assert _same(convert_column("c", pd.Series(numbers, dtype=float), "bigint", form), expected)
    texts = io.StringIO(pd.DataFrame({"c": pd.Series(numbers, dtype=float), "end": 1}).to_csv(index=False))
    written = [line.split(",")[0] for line in texts.getvalue().splitlines()[1:]]
    assert _same(convert_column("c", written, "bigint", form), expected)
    spelled = [None if number is None else str(number) for number in numbers]
    assert convert_column("c", pd.Series(numbers, dtype=float), "string", form).to_pylist() == spelled


def test_inexact_whole_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"column c: is not bigint \(integers from 2\*\*53 on are not exact"):
        convert_column("c", pd.Series([2.0**53, None]), "bigint")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([-999, 5], "int", [None, 5]),
        ([-999.0, 5.5], "double", [None, 5.5]),
        (["-999", " 5"], "bigint", [None, 5]),
        ([-999, 5], "string", [None, "5"]),
        ([Decimal("-999"), Decimal("1.50")], "decimal(8,2)", [None, Decimal("1.50")]),
    ],
)
def test_a_number_that_is_written_like_a_null_value_is_missing(values: Any, kind: str, expected: Any) -> None:
    assert convert_column("c", values, kind, RawForm(("", "NA", "-999"))).to_pylist() == expected


def test_a_null_value_that_was_a_category_in_training_is_data() -> None:
    """A query may have made a category of missing values."""
    form = RawForm(("", "NA"))
    assert convert_column("c", ["NA", "a"], "string", form, frozenset({"NA", "a"})).to_pylist() == ["NA", "a"]
    assert convert_column("c", ["NA", "a"], "string", form, frozenset({"a"})).to_pylist() == [None, "a"]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(pd.to_datetime(["2013-01-01T00:15:00Z", None], utc=True)),
        pd.Series(pd.to_datetime(["2013-01-01T02:15:00+02:00", None])),
        pd.Series(pd.to_datetime(["2013-01-01T00:15:00", None])).astype("datetime64[ns]"),
        [datetime.datetime(2013, 1, 1, 0, 15), None],
        [datetime.datetime(2013, 1, 1, 2, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=2))), None],
        ["2013-01-01T00:15:00Z", None],
        ["2013-01-01 02:15:00+02:00", None],
        ["2013-01-01T00:15:00.000", ""],
        ["01/01/2013 00:15", "-"],
    ],
    ids=str,
)
def test_times_of_any_form_are_the_same_instant(values: Any) -> None:
    form = RawForm(("-",), timestamp_format="dd/MM/yyyy HH:mm")
    expected = [datetime.datetime(2013, 1, 1, 0, 15, tzinfo=datetime.UTC), None]
    assert convert_column("t", values, "timestamp", form).to_pylist() == expected


@pytest.mark.parametrize(("nanoseconds", "microseconds"), [(1499, 1), (1500, 2), (-500, 0), (-501, -1), (-1500, -1)])
def test_nanoseconds_are_rounded_as_in_training(nanoseconds: int, microseconds: int) -> None:
    values = pd.Series(np.array([nanoseconds, "NaT"], "datetime64[ns]"))
    expected = pa.array([microseconds, None], pa.timestamp("us"))
    assert _same(convert_column("t", values, "timestamp_ntz"), expected)


@pytest.mark.parametrize(
    "values",
    [
        ["2013-02-03"],
        ["03.02.2013"],
        ["2013-02-03 00:00:00"],
        [datetime.date(2013, 2, 3)],
        pd.Series(pd.to_datetime(["2013-02-03"])),
        pd.Series(pd.to_datetime(["2013-02-03"])).dt.tz_localize("Asia/Tokyo"),
    ],
    ids=str,
)
def test_dates_of_any_form_are_the_same_day(values: Any) -> None:
    form = RawForm(date_format="dd.MM.yyyy")
    assert convert_column("d", values, "date", form).to_pylist() == [datetime.date(2013, 2, 3)]


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (["1.5"], "int", r"column c: '1.5' is not int \(1 of 1 rows\)"),
        ([1.5], "int", "column c: is not int"),
        (["x", "y", "1"], "double", r"column c: 'x' is not double \(2 of 3 rows\)"),
        ([1357000000], "timestamp", "send texts in ISO 8601"),
        (["2013-02-03 01:00"], "date", "is not date"),
        ([2], "boolean", "2 is not boolean"),
        ([2**40], "int", "column c: is not int"),
        ([[1, 2], [3]], "double", "column c: is not double"),
        ([[1]], "double", "column c: is not double"),
        (5, "double", "column c: is not double"),
        ("abc", "string", "a str is one value, and not a list of them"),
        (b"abc", "binary", "a bytes is one value"),
        ({"a": 1}, "string", "a dict is one value"),
        ([1e39, 1.0], "float", r"1e\+39 is beyond the largest float"),
        (["1e39"], "float", "is not float"),
        ([None, -1e39], "float", r"-1e\+39 is beyond the largest float"),
        ([[1.0, 1e39]], "array<float>", r"1e\+39 is beyond the largest float"),
        ([datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, 10)], "date", "2020-01-01 10:00:00 has a time"),
        (pd.Series(pd.to_datetime(["2013-02-03 01:00"])).dt.tz_localize("UTC"), "date", "has a time of day"),
        ([b"\xff"], "string", "column c: is not string"),
        (["%"], "binary", "is not base64"),
        ([datetime.datetime(2013, 1, 1)], "double", "values are timestamp"),
        ([5, None], "array<double>", "values are int64, and not lists"),
        ([True], "array<double>", "values are bool, and not lists"),
        (["[" * 100_000], "array<double>", "column c: is not array<double>"),
        (pa.array([0], pa.timestamp("us", "No/Where")), "string", "column c: is not string"),
        (pa.array([2**40 + 1], pa.timestamp("s")), "date", "column c: is not date"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(values: Any, kind: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        convert_column("c", values, kind)


def test_infinite_and_missing_numbers_stay() -> None:
    assert convert_column("c", [math.inf, None, 3e38], "float").to_pylist() == [
        math.inf,
        None,
        float(np.float32(3e38)),
    ]
    assert convert_column("c", [[1, None], None], "array<float>").to_pylist() == [[1.0, None], None]
    assert convert_column("d", [datetime.datetime(2020, 1, 1), None], "date").to_pylist() == [
        datetime.date(2020, 1, 1),
        None,
    ]


def test_values_of_several_types_are_read_by_their_texts() -> None:
    assert convert_column("c", [1, "2", None, 3.0], "bigint").to_pylist() == [1, 2, None, 3]
    assert convert_column("c", [True, "no", 1, None], "boolean").to_pylist() == [True, False, True, None]
    assert convert_column("c", [1, "a", True], "string").to_pylist() == ["1", "a", "true"]
    assert convert_column("c", [True, False], "string", None, frozenset({"True", "False"})).to_pylist() == [
        "True", "False",
    ]  # fmt: skip


def test_lists_and_bytes_are_accepted_as_json_holds_them() -> None:
    assert convert_column("v", [[1, 2.5], [3, 4]], "array<double>").to_pylist() == [[1.0, 2.5], [3.0, 4.0]]
    assert convert_column("v", ["[1, 2.5]"], "array<double>").to_pylist() == [[1.0, 2.5]]
    assert convert_column("v", ["AAE="], "binary").to_pylist() == [b"\0\1"]
    assert convert_column("v", [["a", "b"]], "string").to_pylist() == ["a", "b"], "a column as one row"


def test_forms_are_those_of_the_sources_that_may_hold_the_column() -> None:
    sources: dict[str, Any] = {
        "a": CsvSource(path="/a.csv", null_values=("NA",), columns={"x": "int"}),
        "b": JsonSource(path="/b.jsonl", timestamp_format="yyyy-MM"),
        "c": ParquetSource(path="/c.parquet"),
    }
    assert find_forms(sources, ["x", "y"]) == {
        "x": RawForm(("NA", ""), "yyyy-MM", None, may_be_absent=True),
        "y": RawForm((), "yyyy-MM", None, may_be_absent=True),
    }
    for form in find_forms(sources, ["x", "y"]).values():
        assert RawForm.from_dict(json.loads(json.dumps(form.to_dict()))) == form


JSON_VALUES: dict[str, Any] = {
    "boolean": [True, False, None],
    "bigint": [2**53 + 1, -1, None],
    "double": [1.5, 2, None],
    "string": ["", "NA", "é"],
    "timestamp": ["2013-01-01T00:15:00Z", "2013-01-01 02:15:00+02:00", None],
    "date": ["2013-01-01", "1999-12-31", None],
    "array<double>": [[1.0, 2.0], [3, 4.5], None],
}


@pytest.mark.parametrize("kind", list(JSON_VALUES))
def test_members_of_json_lines_are_read_as_in_training(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"c": value}) + "\n" for value in JSON_VALUES[kind]))
    source = JsonSource(path=str(path))
    reader = JsonReader(source, {"c": kind}, {"c": arrow_json_type(kind)})
    (found,) = list(reader.read(ByteRange(path, 0, path.stat().st_size)))
    expected = found.batch.column(0)
    assert expected.type == arrow_type(kind)
    form = find_forms({"a": source}, ["c"])["c"]
    assert _same(convert_column("c", JSON_VALUES[kind], kind, form), expected)
