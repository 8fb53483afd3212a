"""Raw rows in Arrow IPC bytes, which a stranger may have written.

Arrow's reader takes lengths and offsets from the bytes as they are, and the next function that follows them may leave
the memory of the process. So each batch is validated before anything else is asked of it. What is small in the bytes
may still become large: compressed buffers, a long text that a dictionary or a view repeats for each row, lists of
nothing. So columns are measured as they will be after their conversion, and types that hide more are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, RowColumns, check_size, from_columns, invalid_rows
from farandole.serving.service.settings import NotANumber, RequestLimits

ARROW_TYPES = frozenset(
    {"application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file", "application/x-apache-arrow-stream"}
)
"""Media types of Arrow IPC, as a stream or as a file."""
_FILE_START = b"ARROW1"
_MAX_GROWTH = 4
"""The largest allowed size of a body's unpacked columns, as a multiple of the largest body."""
_VALUE_BYTES = 8
"""A value of a list needs so much at most, even if it is a null that takes no room in the bytes."""


def rows_from_arrow(body: bytes, columns: RowColumns, limits: RequestLimits, not_a_number: NotANumber) -> RawRows:
    """Return the rows in Arrow IPC bytes, a stream or a file.

    Raises:
        RequestError: The bytes are damaged, hold too much, or hold NaN or an infinity against the policy.
    """
    try:
        table = _read(body, limits)
        names = table.schema.names  # which need not be texts
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError):
        raise RequestError(400, "the body is not Arrow IPC, or damaged; send a whole stream or file") from None
    if len(set(names)) < len(names):
        raise RequestError(422, "two columns have the same name; rename one")
    needed = [name for name in columns.names if name in names]
    _check_types({name: table.schema.field(name).type for name in needed})
    found = {name: _whole(table.column(name)) for name in needed}
    if sum(_converted_bytes(values) for values in found.values()) > _MAX_GROWTH * limits.max_body_bytes:
        raise _too_much()
    plain = {name: _plain(values) for name, values in found.items()}
    if not_a_number == "refuse":
        _refuse_nan(plain)
    return from_columns(plain, columns, limits, by_columns=True)


def _too_much() -> RequestError:
    return RequestError(413, "the body unpacks to too much; send fewer rows, or do not compress them")


def _read(body: bytes, limits: RequestLimits) -> pa.Table:
    """Read batch by batch, so that a body that unpacks to too many rows is not read to its end."""
    is_file = body.startswith(_FILE_START)
    reader: Any = pa.ipc.open_file(pa.BufferReader(body)) if is_file else pa.ipc.open_stream(pa.BufferReader(body))
    check_size(0, len(reader.schema), limits)
    source = (reader.get_batch(index) for index in range(reader.num_record_batches)) if is_file else reader
    batches, rows, unpacked = [], 0, 0
    for batch in source:
        batch.validate(full=True)  # before anything else: even the size follows offsets that may lead anywhere
        rows += batch.num_rows
        unpacked += batch.nbytes
        check_size(rows, 0, limits)
        if unpacked > _MAX_GROWTH * limits.max_body_bytes:
            raise _too_much()
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, without an extension of its type."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    values = column.combine_chunks()
    return values.chunk(0) if isinstance(values, pa.ChunkedArray) else values


def _plain(values: pa.Array) -> pa.Array:
    """Return the values themselves in place of a dictionary or views."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    return values.cast(pa.binary()) if pa.types.is_binary_view(values.type) else values


# Types -------------------------------------------------------------------------------------------------------------


def _check_types(found: Mapping[str, pa.DataType]) -> None:
    """Check that columns have types of single values, or of lists of them.

    Raises:
        RequestError: One has another type.
    """
    wrong = [
        {"column": name, "rule": f"values of the type {str(kind)[:_SHOWN]} are not read; send plain values or lists"}
        for name, kind in found.items()
        if not _is_read(kind)
    ]
    if wrong:
        raise invalid_rows(wrong)


_SHOWN = 60


def _is_read(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        return _is_single(kind.value_type)
    while _is_list(kind):
        kind = kind.value_type
    return _is_single(kind)


def _is_list(kind: pa.DataType) -> bool:
    found: bool = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return found


def _is_single(kind: pa.DataType) -> bool:
    is_other = pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    return not is_other and not isinstance(kind, pa.BaseExtensionType)


# Sizes -------------------------------------------------------------------------------------------------------------


def _converted_bytes(values: pa.Array) -> int:
    """Return about how many bytes the plain values of a column take."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        indices = pc.fill_null(values.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        sizes = _sizes(values.dictionary)
        return int(sizes[indices].sum()) if len(sizes) else 0
    if _is_list(kind):
        inner = values.flatten()
        return len(values) * _VALUE_BYTES + max(len(inner) * _VALUE_BYTES, _converted_bytes(inner))
    return int(_sizes(values).sum())


def _sizes(values: pa.Array) -> np.ndarray:
    """Return the bytes of each value, of single values."""
    kind = values.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        views = np.frombuffer(values.buffers()[1] or b"", np.int32).reshape(-1, 4)  # the first of four is the length
        return np.maximum(views[values.offset : values.offset + len(values), 0], 0).astype(np.int64)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        lengths: np.ndarray = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
        return lengths.astype(np.int64)
    width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else _VALUE_BYTES
    return np.full(len(values), width, np.int64)


# NaN ---------------------------------------------------------------------------------------------------------------


def _refuse_nan(found: Mapping[str, pa.Array]) -> None:
    rows = {name: _row_of_nan(values) for name, values in found.items()}
    wrong = [
        {"row": row, "column": name, "value": "NaN", "rule": "send null for a missing value"}
        for name, row in rows.items()
        if row is not None
    ]
    if wrong:
        raise invalid_rows(wrong)


def _row_of_nan(values: pa.Array) -> int | None:
    """Return the first row that is NaN, or a list with one."""
    rows: np.ndarray = np.arange(len(values))
    while _is_list(values.type):
        rows = rows[pc.list_parent_indices(values).to_numpy(zero_copy_only=False)]
        values = values.flatten()
    if not pa.types.is_floating(values.type):
        return None
    numbers = pc.fill_null(values.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(np.isnan(numbers))
    return int(rows[wrong[0]]) if len(wrong) else None
