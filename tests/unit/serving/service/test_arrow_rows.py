from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.serving.service.arrow_rows import rows_from_arrow
from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, RowColumns, group_by_kinds, join_columns
from farandole.serving.service.settings import RequestLimits

COLUMNS = RowColumns(("x", "name"), {"x": "double", "name": "string"})
LIMITS = RequestLimits(max_rows=5, max_columns=4, max_body_bytes=10_000)
ONE = RowColumns(("x",), {"x": "string"})


def arrow(table: pa.Table, *, is_file: bool = False, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    make = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def read(values: Any, kind: pa.DataType | None = None, policy: Any = "refuse", **options: Any) -> RawRows:
    """Send one column."""
    return rows_from_arrow(arrow(pa.table({"x": pa.array(values, kind)}), **options), ONE, LIMITS, policy)


@pytest.mark.parametrize("is_file", [False, True])
def test_arrow_columns_keep_their_types(is_file: bool) -> None:
    table = pa.table({"name": ["a", None], "x": pa.array([1, 2], pa.int16())})
    rows = rows_from_arrow(arrow(table, is_file=is_file), COLUMNS, LIMITS, "refuse")
    assert rows.columns["x"].type == pa.int16()
    assert rows.columns["name"].to_pylist() == ["a", None]
    assert (rows.num_rows, rows.by_columns) == (2, True)


@given(st.integers(0, 400), st.binary(max_size=3))
def test_damaged_arrow_bytes_are_refused_or_read(cut: int, noise: bytes) -> None:
    body = arrow(pa.table({"x": [1.0, 2.0], "name": ["a", "b"]}))
    damaged = body[:cut] + noise + body[cut + len(noise) :]
    try:
        rows = rows_from_arrow(damaged[: max(cut, 1)] if cut % 2 else damaged, COLUMNS, LIMITS, "refuse")
    except RequestError:  # and nothing else
        return
    assert rows.num_rows <= LIMITS.max_rows


def test_arrow_body_that_unpacks_to_too_many_rows_is_refused() -> None:
    table = pa.table({"x": [0.0] * 6, "name": ["a"] * 6})
    with pytest.raises(RequestError) as refused:
        rows_from_arrow(arrow(table), COLUMNS, LIMITS, "refuse")
    assert refused.value.status == 413


def test_arrow_nan_is_refused_by_row_unless_the_policy_allows_it() -> None:
    body = arrow(pa.table({"x": [1.0, float("nan")], "name": ["a", "b"]}))
    with pytest.raises(RequestError) as refused:
        rows_from_arrow(body, COLUMNS, LIMITS, "refuse")
    assert refused.value.errors[0]["row"] == 1
    assert rows_from_arrow(body, COLUMNS, LIMITS, "missing").num_rows == 2


def test_arrow_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array(["a"])], names=["x", "x", "name"])
    with pytest.raises(RequestError, match="same name"):
        rows_from_arrow(arrow(table), COLUMNS, LIMITS, "refuse")


def test_no_flipped_bit_leads_the_reader_out_of_the_bytes() -> None:
    names = pa.array(["a", "b", "a"]).dictionary_encode()
    body = arrow(pa.table({"x": [1.0, 2.0, None], "name": names, "more": [["a"], None, []]}))
    statuses = set()
    for position in range(len(body) * 8):
        damaged = bytearray(body)
        damaged[position // 8] ^= 1 << position % 8
        try:
            rows_from_arrow(bytes(damaged), COLUMNS, LIMITS, "refuse")
        except RequestError as error:
            statuses.add(error.status)
    assert statuses <= {400, 413, 422}
    assert 400 in statuses


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "b"], pa.string_view()),
        (["a", None, "b"], pa.large_string()),
        (["a", None, "b"], pa.dictionary(pa.int8(), pa.string())),
        (["a", None, "b"], pa.json_()),
        ([b"a", None, b"b"], pa.binary_view()),
        ([b"a", None, b"b"], pa.binary(1)),
        ([1.0, None, 2.5], pa.dictionary(pa.int16(), pa.float32())),
        ([[1, 2], None, []], pa.large_list(pa.int8())),
        ([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float16(), 2)),
        ([[[1]], None, [[]]], pa.list_(pa.list_(pa.int8()))),
        ([None, None, None], pa.null()),
    ],
    ids=str,
)
def test_values_are_the_same_in_every_encoding(values: list[Any], kind: pa.DataType) -> None:
    stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    column = pa.array(values, stored)
    if kind is not stored:
        column = pa.ExtensionArray.from_storage(kind, column)
    for compression in (None, "lz4", "zstd"):
        body = arrow(pa.table({"x": column}), compression=compression)
        found = rows_from_arrow(body, ONE, LIMITS, "refuse").columns["x"]
        assert found.to_pylist() == values
        assert not pa.types.is_dictionary(found.type)


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("a", pa.int8())]),
        pa.map_(pa.string(), pa.int8()),
        pa.list_view(pa.int8()),
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
        pa.list_(pa.struct([("a", pa.int8())])),
        pa.dense_union([pa.field("a", pa.int8())]),
    ],
    ids=str,
)
def test_type_that_no_column_has_is_named(kind: pa.DataType) -> None:
    with pytest.raises(RequestError) as refused:
        read(pa.nulls(2, kind))
    (error,) = refused.value.errors
    assert (refused.value.status, error["column"]) == (422, "x")
    assert error["rule"].startswith(f"values of the type {str(kind)[:20]}")


def test_column_that_the_model_does_not_need_may_have_any_type() -> None:
    table = pa.table({"x": ["a"], "more": pa.nulls(1, pa.struct([("a", pa.int8())]))})
    assert rows_from_arrow(arrow(table), ONE, LIMITS, "refuse").columns["x"].to_pylist() == ["a"]


LONG = "x" * 9_000


@pytest.mark.parametrize(
    "column",
    [
        pa.DictionaryArray.from_arrays(pa.array([0] * 5, pa.int8()), pa.array([LONG])),
        pa.DictionaryArray.from_arrays(pa.array([0] * 5, pa.int8()), pa.array([LONG], pa.string_view())),
        pa.ListArray.from_arrays(pa.array([0, 9_000], pa.int32()), pa.nulls(9_000)),
        pa.FixedSizeListArray.from_arrays(pa.nulls(2**20), 2**20),
    ],
    ids=["dictionary", "dictionary of views", "list of nothing", "long list of nothing"],
)
def test_what_repeats_itself_for_each_row_is_measured_as_it_will_be(column: pa.Array) -> None:
    with pytest.raises(RequestError) as refused:
        read(column)
    assert refused.value.status == 413


def test_view_that_repeats_a_long_text_is_measured_as_it_will_be() -> None:
    (_, views, text) = pa.array([LONG], pa.string_view()).buffers()
    repeated = pa.Array.from_buffers(pa.string_view(), 5, [None, pa.py_buffer(views.to_pybytes()[:16] * 5), text])
    assert len(arrow(pa.table({"x": repeated}))) < 20_000
    with pytest.raises(RequestError) as refused:
        read(repeated)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, float("nan"), None], pa.float16()),
        ([1.0, float("nan"), float("nan")], pa.dictionary(pa.int8(), pa.float64())),
        ([[1.0], [2.0, float("nan")], None], pa.list_(pa.float32())),
        ([None, [2.0, float("nan")], None], pa.list_(pa.float64(), 2)),
    ],
    ids=str,
)
def test_nan_is_found_in_every_encoding(values: list[Any], kind: pa.DataType) -> None:
    with pytest.raises(RequestError) as refused:
        read(values, kind)
    assert refused.value.errors == [{"row": 1, "column": "x", "value": "NaN", "rule": "send null for a missing value"}]
    assert read(values, kind, "missing").num_rows == 3


def test_arrow_columns_of_one_type_are_joined() -> None:
    body = arrow(pa.table({"x": [1.0], "name": ["a"]}))
    requests = [rows_from_arrow(body, COLUMNS, LIMITS, "refuse") for _ in range(2)]
    assert group_by_kinds(requests) == [[0, 1]]
    assert join_columns(requests)["x"].to_pylist() == [1.0, 1.0]
