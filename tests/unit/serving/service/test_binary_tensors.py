from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from farandole.serving.service.binary_tensors import (
    BinaryTail,
    read_values,
    split_body,
    wants_binary,
    without_nan,
    write_values,
)
from farandole.serving.service.errors import RequestError


def elements(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@pytest.mark.parametrize("header", [b"", b"x", b"-1", b"1.0", b"7", b"9" * 40])
def test_header_that_is_not_a_length_within_the_body_is_refused(header: bytes) -> None:
    with pytest.raises(RequestError, match="must be at most 6") as refused:
        split_body(b"{}abcd", header)
    assert refused.value.status == 400


def test_tail_is_taken_piece_by_piece() -> None:
    text, tail = split_body(b"{}abcd", b"2")
    assert text == b"{}"
    assert (bytes(tail.take(3, "a")), bytes(tail.take(0, "b"))) == (b"abc", b"")
    with pytest.raises(RequestError, match="1 bytes behind the JSON belong to no tensor"):
        tail.check_end()
    assert bytes(tail.take(1, "c")) == b"d"
    tail.check_end()
    with pytest.raises(RequestError, match="d: `binary_data_size` is 1, and only 0 bytes are left"):
        tail.take(1, "d")


@pytest.mark.parametrize("size", [-1, True, 1.0, "1", [1]])
def test_size_that_is_not_a_number_is_refused(size: Any) -> None:
    with pytest.raises(RequestError, match="must be a number of bytes"):
        BinaryTail(memoryview(b"abc")).take(size, "a")


def test_body_without_the_header_has_no_tail() -> None:
    text, tail = split_body(b"{}", None)
    assert text == b"{}"
    tail.check_end()
    with pytest.raises(RequestError, match="needs the header"):
        tail.take(0, "a")


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 2**16 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP16", [-0.5, 65504.0]),
        ("FP32", [-0.25, 2.0**100]),
        ("FP64", [0.1, -1e300]),
        ("BOOL", [True, False]),
    ],
)
def test_numbers_are_read_little_endian(datatype: str, values: list[Any]) -> None:
    letters = {"INT": "i", "UINT": "u", "FP": "f"}
    kind = datatype.rstrip("0123456789")
    dtype = f"<{letters[kind]}{int(datatype[len(kind) :]) // 8}" if kind in letters else "?"
    data = memoryview(np.array(values, dtype).tobytes())
    found = read_values(datatype, 2, data, "a", as_text=True)
    assert found == values
    assert {type(each) for each in found} == {type(values[0])}
    for wrong in (data[:-1], data[:0]):
        with pytest.raises(RequestError, match=f"bytes of {datatype}, and there are {len(wrong)}"):
            read_values(datatype, 2, wrong, "a", as_text=True)


def test_other_bytes_are_not_a_bool() -> None:
    with pytest.raises(RequestError, match="0 or 1"):
        read_values("BOOL", 2, memoryview(b"\0\2"), "a", as_text=True)


def test_elements_are_texts_or_bytes() -> None:
    data = memoryview(elements("é".encode(), b"", b"ab"))
    assert read_values("BYTES", 3, data, "a", as_text=True) == ["é", "", "ab"]
    assert read_values("BYTES", 3, data, "a", as_text=False) == ["é".encode(), b"", b"ab"]


@pytest.mark.parametrize(
    ("count", "data", "message"),
    [
        (1, b"", "1 elements"),
        (1, b"\1\0\0", "1 elements"),
        (2, elements(b"a"), "2 elements"),
        (1, elements(b"a", b"b"), "1 elements"),
        (1, elements(b"a") + b"x", "1 elements"),
        (1, b"\5\0\0\0ab", "element 0 ends behind the tensor"),
        (1, b"\xff\xff\xff\xff", "element 0 ends behind the tensor"),
        (10**15, elements(b"a"), "elements"),
        (1, elements(b"\xff"), "not UTF-8"),
    ],
)
def test_elements_that_do_not_fit_are_refused(count: int, data: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        read_values("BYTES", count, memoryview(data), "a", as_text=True)
    assert refused.value.status == 400


def test_nan_follows_the_policy_and_an_infinity_is_an_error() -> None:
    assert without_nan("x", [1.0, float("nan")], 1, "missing") == [1.0, None]
    assert without_nan("x", [1.0, 2.0], 1, "refuse") == [1.0, 2.0]
    wrong: list[tuple[float, Any, str]] = [
        (float("nan"), "refuse", "nan"),
        (float("inf"), "refuse", "inf"),
        (float("-inf"), "missing", "-inf"),
    ]
    for value, policy, shown in wrong:
        with pytest.raises(RequestError) as refused:
            without_nan("x", [1.0, 2.0, 3.0, value], 2, policy)
        (error,) = refused.value.errors
        assert (refused.value.status, error["row"], error["column"], error["value"]) == (422, 1, "x", shown)


def test_output_is_binary_where_it_or_the_request_says_so() -> None:
    everything = {"parameters": {"binary_data_output": True}}
    assert not wants_binary({}, {})
    assert wants_binary({}, everything)
    assert wants_binary({"parameters": {"binary_data": True}}, {"parameters": {"other": 1}})
    assert not wants_binary({"parameters": {"binary_data": False}}, everything)
    for output, document in (
        ({"parameters": 1}, {}),
        ({"parameters": {"binary_data": 1}}, {}),
        ({}, {"parameters": []}),
    ):
        with pytest.raises(RequestError, match="`parameters` must be an object"):
            wants_binary(output, document)


def test_outputs_are_written_as_they_would_be_read() -> None:
    assert write_values(np.array([0.1, np.nan])) == struct.pack("<dd", 0.1, float("nan"))
    assert write_values(np.array(["é", None], dtype=object)) == elements("é".encode(), b"")
