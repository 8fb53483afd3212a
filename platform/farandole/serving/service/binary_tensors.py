"""The binary tensor extension of the Open Inference Protocol: the values of tensors as bytes behind the JSON.

The header `Inference-Header-Content-Length` has the length of the JSON. Behind it, the tensors with a
`binary_data_size` follow one another, in the order of the JSON: little-endian numbers, one byte for a BOOL, and for
each element of BYTES its length as four bytes and then its bytes. The specification is
https://github.com/kserve/open-inference-protocol and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import invalid_rows
from farandole.serving.service.settings import NotANumber

HEADER = "inference-header-content-length"
EXTENSION = "binary_tensor_data"
_MAX_DIGITS = 18
_DTYPES = {
    "BOOL": "u1",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_LENGTH = struct.Struct("<I")


class BinaryTail:
    """The bytes behind the JSON of a request, taken from the front.

    Args:
        content: The bytes; None where the request has no header of the extension.
    """

    def __init__(self, content: memoryview | None) -> None:
        self._content, self._start = content, 0

    def take(self, size: Any, where: str) -> memoryview:
        """Return the next bytes.

        Args:
            size: Their number, as the request has it.
            where: The tensor, for errors.

        Raises:
            RequestError: There are fewer, or the size is not a number.
        """
        if type(size) is not int or size < 0:
            raise RequestError(400, f"{where}: `binary_data_size` must be a number of bytes")
        if self._content is None:
            raise RequestError(400, f"{where}: binary data needs the header Inference-Header-Content-Length")
        found = self._content[self._start : self._start + size]
        if len(found) < size:
            raise RequestError(
                400, f"{where}: `binary_data_size` is {size}, and only {len(found)} bytes are left in the body"
            )
        self._start += size
        return found

    def check_end(self) -> None:
        """Check that nothing is left.

        Raises:
            RequestError: There are bytes that belong to no tensor.
        """
        if self._content is not None and self._start < len(self._content):
            left = len(self._content) - self._start
            raise RequestError(400, f"{left} bytes behind the JSON belong to no tensor; correct `binary_data_size`")


def split_body(body: bytes, header: bytes | None) -> tuple[bytes, BinaryTail]:
    """Return the JSON of a request, and the bytes behind it.

    Args:
        body: The body.
        header: The value of the header `Inference-Header-Content-Length`; None: all is JSON.

    Raises:
        RequestError: The header is not a length within the body.
    """
    if header is None:
        return body, BinaryTail(None)
    if not header.isdigit() or len(header) > _MAX_DIGITS or int(header) > len(body):
        raise RequestError(400, f"Inference-Header-Content-Length must be at most {len(body)}, the length of the body")
    length = int(header)
    return body[:length], BinaryTail(memoryview(body)[length:])


def read_values(datatype: str, count: int, data: memoryview, where: str, *, as_text: bool) -> list[Any]:
    """Return the values of a tensor, in row-major order.

    Args:
        datatype: Its datatype.
        count: The number of values that its shape means.
        data: Its bytes.
        where: The tensor, for errors.
        as_text: Whether elements of BYTES are texts in UTF-8.

    Raises:
        RequestError: The bytes do not fit.
    """
    if datatype == "BYTES":
        return _read_elements(count, data, where, as_text=as_text)
    dtype = np.dtype(_DTYPES[datatype])
    if len(data) != count * dtype.itemsize:
        raise RequestError(
            400, f"{where}: `shape` means {count * dtype.itemsize} bytes of {datatype}, and there are {len(data)}"
        )
    values = np.frombuffer(data, dtype)
    if datatype == "BOOL":
        if values.size and values.max() > 1:
            raise RequestError(400, f"{where}: a BOOL must be one byte, 0 or 1")
        values = values.astype(bool)
    return list(values.tolist())


def _read_elements(count: int, data: memoryview, where: str, *, as_text: bool) -> list[Any]:
    found: list[Any] = []
    start = 0
    while start + _LENGTH.size <= len(data) and len(found) < count:
        (size,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        element = bytes(data[start : start + size])
        if len(element) < size:
            raise RequestError(400, f"{where}: element {len(found)} ends behind the tensor")
        found.append(element)
        start += size
    if len(found) < count or start < len(data):
        raise RequestError(
            400, f"{where}: `shape` means {count} elements of BYTES, which the bytes do not hold exactly"
        )
    if not as_text:
        return found
    try:
        return [element.decode("utf-8") for element in found]
    except UnicodeDecodeError:
        raise RequestError(400, f"{where}: an element of BYTES is not UTF-8") from None


def without_nan(name: str, values: Sequence[Any], width: int, policy: NotANumber) -> list[Any]:
    """Return floating-point numbers with None for NaN, if the policy is that NaN means a missing value.

    Args:
        name: The column.
        values: The values, row by row.
        width: The number of values of a row.
        policy: The policy for NaN.

    Raises:
        RequestError: There is an infinity, or a NaN that is refused.
    """
    numbers = np.asarray(values, np.float64)
    wrong = ~np.isfinite(numbers) if policy == "refuse" else np.isinf(numbers)
    if wrong.any():
        position = int(wrong.argmax())
        rule = "must be finite; for a missing value, send null in JSON"
        value = str(values[position])
        raise invalid_rows([{"row": position // max(width, 1), "column": name, "value": value, "rule": rule}])
    return [None if is_nan else value for value, is_nan in zip(values, np.isnan(numbers), strict=True)]


def wants_binary(output: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Return whether an output is asked for as bytes: by itself, or by the request for all outputs.

    Raises:
        RequestError: A parameter has another type.
    """
    found = False
    for parameters, name in (
        (document.get("parameters"), "binary_data_output"),
        (output.get("parameters"), "binary_data"),
    ):
        if parameters is None:
            continue
        value = parameters.get(name, found) if isinstance(parameters, dict) else None
        if not isinstance(value, bool):
            raise RequestError(400, f"`parameters` must be an object, and `{name}` in it true or false")
        found = value
    return found


def write_values(values: np.ndarray) -> bytes:
    """Return the bytes of an output; a missing text has no bytes, a missing number is NaN."""
    if values.dtype == object:
        return b"".join(_elements(values.tolist()))
    return values.astype("<f8").tobytes()


def _elements(values: Iterable[Any]) -> Iterable[bytes]:
    for value in values:
        element = b"" if value is None else str(value).encode()
        yield _LENGTH.pack(len(element))
        yield element
