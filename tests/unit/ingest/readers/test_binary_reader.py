"""Files of records of one length: fields, headers, byte orders, and what is left over at the end."""

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
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, columns

FIELDS = {"label": "uint8", "depth": "int32", "weight": "float64", "pixels": "bytes[5]"}
VALUES = [(number, -number, number / 8, bytes([number] * 5)) for number in range(200)]


def packed(order: str = "<") -> bytes:
    """The records as bytes."""
    kinds = np.dtype([("label", "u1"), ("depth", f"{order}i4"), ("weight", f"{order}f8"), ("pixels", "V5")])
    return np.array(VALUES, kinds).tobytes()


def read(path: Path, **source: Any) -> list[RowBatch]:
    raw = {"format": "records", "path": str(path), "columns": FIELDS, **source}
    return list(BinaryReader(RecordSource.model_validate(raw)).read(ByteRange(path)))


def rows(read: list[RowBatch]) -> list[dict[str, Any]]:
    return pa.Table.from_batches([each.batch for each in read]).to_pylist()


WANTED = [
    {"label": label, "depth": depth, "weight": weight, "pixels": pixels, "file": "a.bin", "record": number}
    for number, (label, depth, weight, pixels) in enumerate(VALUES)
]


@pytest.mark.parametrize(("order", "sign"), [("little", "<"), ("big", ">")])
def test_every_field_is_read_in_its_byte_order(tmp_path: Path, order: str, sign: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(packed(sign))
    assert rows(read(path, byte_order=order)) == WANTED


def test_a_header_is_left_out_and_gzip_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.bin.gz"
    path.write_bytes(gzip.compress(b"head" + packed()))
    assert rows(read(path, header_bytes=4)) == [{**row, "file": "a.bin.gz"} for row in WANTED]


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_reader, "CHUNK_BYTES", 100)
    path = tmp_path / "a.bin"
    path.write_bytes(packed() + b"torn")
    found = read(path)
    assert len(found) > 20
    assert rows(found) == WANTED
    (malformed,) = [each for part in found for each in part.malformed]
    assert (malformed.record, malformed.reason) == (
        b"torn",
        "the last 4 bytes are less than a record, which has 18",
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
        ({"record": "uint8"}, "columns.record: every record has a column of this name already"),
    ],
)
def test_fields_that_cannot_be_read_are_refused(columns: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RecordSource.model_validate({"format": "records", "path": "a", "columns": columns})


SOURCE = {
    "format": "records",
    "path": "*.bin",
    "columns": {"bought": "uint8", "pixels": "bytes[12]"},
    "null_values": ...,
}
DATA = {"features": {"pixels": {"kind": "image", "size": [2, 2], "pixels": "chw"}}, "split": {"column": "split"}}
QUERY = "SELECT bought, pixels, IF(file = 'more.bin', 'test', 'train') AS split FROM rows"


def _batches(tmp_path: Path, rest: bytes = b"") -> None:
    for name, start in (("some.bin", 0), ("more.bin", 100)):
        records = b"".join(bytes([n % 2, *range(n, n + 12)]) for n in range(start, start + 40))
        (tmp_path / name).write_bytes(records + rest)


def test_spark_reads_records_into_images(tmp_path: Path, make_job: MakeJob, prepare: Prepare) -> None:
    _batches(tmp_path)
    prepared = prepare(make_job({**DATA, "query": QUERY}, rows=SOURCE))
    assert prepared.manifest.row_counts == {"train": 40, "validation": 0, "test": 40}
    found = columns(prepared.path, "test")
    first = found["pixels"].reshape(-1, 2, 2, 3)
    assert sorted(first[:, 0, 0, 0].tolist()) == list(range(100, 140))
    assert (first[..., 1] == first[..., 0] + 4).all()
    assert (found["label"] == first[:, 0, 0, 0] % 2).all()


def test_a_torn_record_is_told_or_left_out(tmp_path: Path, make_job: MakeJob, prepare: Prepare, refuse: Refuse) -> None:
    _batches(tmp_path, b"torn")
    message = str(refuse(make_job({**DATA, "query": QUERY}, rows=SOURCE)))
    assert "more.bin: the last 4 bytes are less than a record, which has 13 (2 such rows); mend the rows" in message
    prepared = prepare(make_job({**DATA, "query": QUERY}, rows={**SOURCE, "malformed": "quarantine"}))
    (entry,) = prepared.manifest.malformed
    assert (entry.read, entry.rows) == (80, 2)
