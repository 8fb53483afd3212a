"""Files of fixed-length records: fields, headers, byte orders, and bytes behind the last record."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DataError
from farandole.ingest.readers import binary_reader
from farandole.ingest.readers.binary_reader import BinaryReader
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.row_batch import RowBatch
from farandole.spec import RecordSource

FIELDS = {"label": "uint8", "depth": "int32", "weight": "float64", "pixels": "bytes[5]"}
VALUES = [(number, -number, number / 8, bytes([number] * 5)) for number in range(200)]


def packed(order: str = "<") -> bytes:
    """Return the records as bytes."""
    kinds = np.dtype([("label", "u1"), ("depth", f"{order}i4"), ("weight", f"{order}f8"), ("pixels", "V5")])
    return np.array(VALUES, kinds).tobytes()


def read(path: Path, **source: Any) -> list[RowBatch]:
    raw = {"format": "records", "path": str(path), "columns": FIELDS, **source}
    return list(BinaryReader(RecordSource.model_validate(raw)).read(ByteRange(path)))


def rows(read: list[RowBatch]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa.Table.from_batches([each.batch for each in read]).to_pylist()
    return found


WANTED = [
    {"label": label, "depth": depth, "weight": weight, "pixels": pixels, "file": "a.bin", "record": number}
    for number, (label, depth, weight, pixels) in enumerate(VALUES)
]


@pytest.mark.parametrize(("order", "sign"), [("little", "<"), ("big", ">")])
def test_every_field_is_read_in_its_byte_order(tmp_path: Path, order: str, sign: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(packed(sign))
    assert rows(read(path, byte_order=order)) == WANTED


def test_header_is_skipped_and_gzip_is_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "a.bin.gz"
    path.write_bytes(gzip.compress(b"head" + packed()))
    assert rows(read(path, header_bytes=4)) == [{**row, "file": "a.bin.gz"} for row in WANTED]


def test_chunk_size_has_no_effect_on_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_reader, "CHUNK_BYTES", 100)
    path = tmp_path / "a.bin"
    path.write_bytes(packed() + b"torn")
    found = read(path)
    assert len(found) > 20
    assert rows(found) == WANTED
    (malformed,) = [each for part in found for each in part.malformed]
    assert (malformed.record, malformed.reason) == (
        b"torn",
        "the last 4 bytes are not a whole record of 18 bytes",
    )


def test_a_file_that_ends_in_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    with pytest.raises(DataError, match=r"a.bin: has 3 bytes, less than `header_bytes` \(16\); write"):
        read(path, header_bytes=16)


def test_a_file_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin.gz"
    path.write_bytes(packed())
    with pytest.raises(DataError, match=r"a.bin.gz: cannot be read .*; write the file again"):
        read(path)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"a": "uint16"}, "not a type of a field in a record; use one of uint8, int8"),
        ({"a": "bytes[0]"}, "not a type of a field"),
        ({"record": "uint8"}, "columns.record: every record already has a column of this name"),
    ],
)
def test_fields_that_cannot_be_read_are_refused(columns: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RecordSource.model_validate({"format": "records", "path": "a", "columns": columns})
