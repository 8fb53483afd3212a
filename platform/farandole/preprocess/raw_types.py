"""The types of raw columns: SQL's names for them, and Arrow's types."""

from __future__ import annotations

import re

import pyarrow as pa

from farandole.errors import DataError

_ARROW_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a SQL type's name.

    Raises:
        DataError: There is none that a feature could be made of.
    """
    decimal = re.fullmatch(r"decimal\((\d+),(\d+)\)", name)
    if decimal:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    array = re.fullmatch(r"array<(.+)>", name)
    if array:
        return pa.list_(arrow_type(array[1]))
    if name not in _ARROW_TYPES:
        raise DataError(f"a column of type {name} cannot be a feature; cast it in the query")
    return _ARROW_TYPES[name]
