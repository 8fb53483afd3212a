"""Bodies of requests for fuzzing: good ones to begin with, and those that are put together from odd values."""

from __future__ import annotations

import base64
import datetime
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.support.page_models import mixed_rows
from tests.support.served import ROW

if TYPE_CHECKING:
    from atheris import FuzzedDataProvider

_ROWS: dict[str, dict[str, Any]] = {
    "flights": ROW,
    "sources": {"miles": 870.5, "seats": 150, "carrier": "UA", "delayed": True, "cancelled": False},
}
_TEXTS = [
    *(
        "",
        " ",
        "0",
        "-1",
        "1e400",
        "-0.0",
        "NaN",
        "Infinity",
        "1_000",
        "\uff11\uff12",
        "0x10",
        "1,5",
        "12.50",
        "true",
        "F",
    ),
    *("2022-02-30", "2022-01-01", "0000-00-00", "9999-12-31T23:59:60Z", "2022-01-01T08:00:00+25:00", "+292278-01-01"),
    *("-9999-01-01T00:00:00", "10000-01-01", "red", "town 1", "a\0b", "\ufeff", "e\u0301" * 40, "\U0001f600", "\x7f"),
    *("[1,2,3]", "[1,NaN,2]", "[[1]]", "{}", "[" * 2000, "AAAA", "====", "QUFB\nQUFB", "1" * 400, "\u2028", "%s{0}"),
]
_NUMBERS = [0, -1, 255, 256, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 0.5, -0.0, 1e300, 1e-320, 3.5e38]
_OTHERS = [None, True, False, [], {}, [1, 2, 3], [None, 1.5, 2], [1, "a", None], [[1, 2, 3]], {"a": 1}, [1e39, 0, 0]]
_ODD = [*_TEXTS, *_NUMBERS, *_OTHERS]
_TYPES: list[pa.DataType] = [
    *(pa.null(), pa.bool_(), pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32()),
    *(pa.float64(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary(2)),
    *(pa.binary_view(), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.duration("us")),
    *(pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "+05:30"), pa.timestamp("ns", "Europe/Paris")),
    *(pa.timestamp("us", "No/Where"), pa.decimal128(10, 2), pa.decimal128(38, 0), pa.decimal256(76, 10)),
    *(pa.decimal32(5, 1), pa.month_day_nano_interval(), pa.list_(pa.float64()), pa.large_list(pa.int32())),
    *(pa.list_(pa.float32(), 3), pa.list_view(pa.int64()), pa.list_(pa.list_(pa.int8())), pa.list_(pa.string())),
    *(pa.struct([("a", pa.int32())]), pa.map_(pa.string(), pa.int32()), pa.dictionary(pa.int8(), pa.string())),
    *(pa.dictionary(pa.int32(), pa.float64()), pa.run_end_encoded(pa.int32(), pa.string())),
    *(pa.dense_union([pa.field("a", pa.int32()), pa.field("b", pa.string())]), pa.dictionary(pa.int8(), pa.binary())),
]
_VALUES: list[Callable[[int], Any]] = [
    lambda number: None,
    lambda number: number,
    lambda number: number % 100,
    lambda number: number / 7,
    lambda number: bool(number & 1),
    lambda number: _TEXTS[number % len(_TEXTS)],
    lambda number: _TEXTS[number % len(_TEXTS)].encode(errors="replace"),
    lambda number: datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=number % 2**37),
    lambda number: float("nan"),
    lambda number: float("-inf"),
    lambda number: [number % 300, None, number / 3],
    lambda number: [str(number)],
    lambda number: {"a": number % 100},
    lambda number: [("a", number % 100)],
]


def columns_of(model: str) -> dict[str, Any]:
    """Return a good row of `mixed`, `flights` or `sources` (whose query takes other columns), as JSON has it."""
    if model in _ROWS:
        return dict(_ROWS[model])
    return {name: _plain(values[0]) for name, values in mixed_rows(1).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime.date) else value


# Bodies to begin with --------------------------------------------------------------------------------------------


def row_seeds(model: str) -> list[bytes]:
    """Return good bodies of `/predict` as JSON: rows and columns."""
    row = columns_of(model)
    other = dict.fromkeys(row)
    documents = [
        {"rows": [row]},
        {"rows": [row, other]},
        {"columns": {name: [value] * 2 for name, value in row.items()}},
    ]
    return [json.dumps(document).encode() for document in documents]


def tensor_seeds(model: str) -> list[bytes]:
    """Return good bodies of the Open Inference Protocol."""
    inputs = [_tensor(name, [value]) for name, value in columns_of(model).items()]
    return [json.dumps({"id": "1", "inputs": inputs, "outputs": [{"name": "prediction"}]}).encode()]


def _tensor(name: str, data: list[Any]) -> dict[str, Any]:
    first = data[0]
    shape = [len(data), len(first)] if isinstance(first, list) else [len(data)]
    kinds = {bool: "BOOL", int: "INT32", float: "FP64", str: "BYTES", list: "FP64"}
    return {"name": name, "datatype": kinds[type(first)], "shape": shape, "data": data}


def arrow_seeds(model: str) -> list[bytes]:
    """Return good bodies of Arrow: streams and files, plain and compressed, of other types for the same values."""
    table = pa.table({name: pa.array([value, None]) for name, value in columns_of(model).items()})
    encoded = pa.table({name: _encoded(table[name]) for name in table.schema.names})
    return [
        arrow_bytes(table, is_file=False),
        arrow_bytes(table, is_file=True),
        arrow_bytes(table, is_file=False, compression="lz4"),
        arrow_bytes(table, is_file=True, compression="zstd"),
        arrow_bytes(encoded, is_file=False),
    ]


def _encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.dictionary_encode() if pa.types.is_string(column.type) else column


def arrow_bytes(table: pa.Table, *, is_file: bool, compression: str | None = None) -> bytes:
    """Return a table as Arrow IPC."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with make(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def image_seeds() -> list[bytes]:
    """Return small image files in every format that is decoded."""
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)
    seeds = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16"):
        image = Image.fromarray(pixels).convert("I" if mode == "I;16" else mode)
        image = image.convert(mode) if mode == "I;16" else image
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
            file = io.BytesIO()
            try:
                image.save(file, kind)
            except (OSError, ValueError):  # this format has no such mode
                continue
            seeds.append(file.getvalue())
    return seeds


# Bodies that are put together ------------------------------------------------------------------------------------


def make_rows(data: FuzzedDataProvider, model: str) -> dict[str, Any]:
    """Return a document with rows or columns, in which some values are odd."""
    good = columns_of(model)
    rows = [{**good, **_changes(data, good)} for _ in range(data.ConsumeIntInRange(1, 3))]
    if data.ConsumeBool():
        return {"rows": rows}
    return {"columns": {name: [row.get(name) for row in rows] for name in good}}


def make_tensors(data: FuzzedDataProvider, model: str) -> dict[str, Any]:
    """Return an inference request, in which some tensors are odd."""
    good = columns_of(model)
    inputs = []
    for name, value in good.items():
        tensor = _tensor(name, [value])
        if data.ConsumeProbability() < 0.2:
            tensor["datatype"] = data.PickValueInList(["BOOL", "INT8", "UINT64", "FP16", "FP64", "BYTES", "X"])
            tensor["data"] = [_odd_value(data) for _ in range(data.ConsumeIntInRange(0, 4))]
            tensor["shape"] = [data.ConsumeIntInRange(-1, 4) for _ in range(data.ConsumeIntInRange(0, 3))]
        inputs.append(tensor)
    return {"inputs": inputs}


def _changes(data: FuzzedDataProvider, good: dict[str, Any]) -> dict[str, Any]:
    names = list(good)
    return {data.PickValueInList(names): _odd_value(data) for _ in range(data.ConsumeIntInRange(0, 3))}


def _odd_value(data: FuzzedDataProvider) -> Any:
    way = data.ConsumeIntInRange(0, 9)
    if way == 0:
        return data.ConsumeUnicode(data.ConsumeIntInRange(0, 30))
    if way == 1:
        return data.ConsumeInt(9)
    if way == 2:
        return data.ConsumeFloat()
    if way == 3:
        return base64.b64encode(data.ConsumeBytes(data.ConsumeIntInRange(0, 100))).decode()
    if way == 4:
        return [data.PickValueInList(_ODD) for _ in range(data.ConsumeIntInRange(0, 4))]
    return data.PickValueInList(_ODD)


def make_table(data: FuzzedDataProvider, model: str) -> pa.Table:
    """Return a table whose columns have odd types and values."""
    good = columns_of(model)
    count = data.ConsumeIntInRange(1, 3)
    columns = {}
    for name, value in good.items():
        column = pa.array([value] * count)
        if data.ConsumeProbability() < 0.2:
            column = _odd_column(data, count)
        columns[name] = column
    return pa.table(columns)


def _odd_column(data: FuzzedDataProvider, count: int) -> pa.Array:
    """Return values of a random type, as far as Arrow converts them to it."""
    kind, make = data.PickValueInList(_TYPES), data.PickValueInList(_VALUES)
    values = [make(data.ConsumeInt(8)) if data.ConsumeBool() else None for _ in range(count)]
    for attempt in (lambda: pa.array(values, kind), lambda: pa.array(values).cast(kind), lambda: pa.array(values)):
        try:
            return attempt()
        except (pa.ArrowException, TypeError, ValueError, OverflowError, KeyError):
            continue
    return pa.nulls(count, kind)
