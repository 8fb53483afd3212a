"""Files of fixed-length records through Spark."""

from __future__ import annotations

from pathlib import Path

from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, columns

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


def test_truncated_record_is_reported_or_left_out(
    tmp_path: Path, make_job: MakeJob, prepare: Prepare, refuse: Refuse
) -> None:
    _batches(tmp_path, b"torn")
    message = str(refuse(make_job({**DATA, "query": QUERY}, rows=SOURCE)))
    assert "more.bin: the last 4 bytes are not a whole record of 13 bytes (2 such rows); fix the rows" in message
    prepared = prepare(make_job({**DATA, "query": QUERY}, rows={**SOURCE, "malformed": "quarantine"}))
    (entry,) = prepared.manifest.malformed
    assert (entry.read, entry.rows) == (80, 2)
