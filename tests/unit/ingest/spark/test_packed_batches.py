from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from farandole.ingest.spark import packed_batches
from farandole.ingest.spark.packed_batches import BatchPacker, unpack_batch

BATCH = pa.record_batch(
    {
        "text": pa.array(["a", None, "café", ""]),
        "list": pa.array([[1], [], None, [2, 3]], pa.list_(pa.int32())),
        "number": pa.array([1.5, float("nan"), None, -0.0]),
    }
)


@pytest.fixture(params=["in values", "in files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "in files" else None


@pytest.mark.parametrize("batch", [BATCH, BATCH.slice(1, 2), BATCH.slice(0, 0)])
def test_batch_survives_packing_into_one_value(batch: pa.RecordBatch, folder: Path | None) -> None:
    with BatchPacker(folder) as packing:
        values = [packing.pack(batch) for _ in range(3)]
    for value in values:
        assert (len(value), value.null_count) == (1, 0)
        assert repr(unpack_batch(value[0]).to_pylist()) == repr(batch.to_pylist())


def test_pieces_have_moderate_size_and_contain_all_rows(folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_batches, "_PIECE_BYTES", 1000)
    batch = pa.record_batch({"number": pa.array(np.arange(1001))})
    with BatchPacker(folder) as packing:
        values = list(packing.pieces(batch))
    pieces = [unpack_batch(piece[0]) for piece in values]
    assert max(piece.nbytes for piece in pieces) <= 1000
    assert [row for piece in pieces for row in piece.column(0).to_pylist()] == list(range(1001))


def test_empty_batch_gives_neither_pieces_nor_a_file(tmp_path: Path) -> None:
    with BatchPacker(tmp_path) as packing:
        assert list(packing.pieces(BATCH.slice(0, 0))) == []
    assert list(tmp_path.iterdir()) == []


def test_row_larger_than_a_piece_becomes_one_piece(folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_batches, "_PIECE_BYTES", 10)
    batch = pa.record_batch({"text": pa.array(["x" * 100, "y" * 100])})
    with BatchPacker(folder) as packing:
        values = list(packing.pieces(batch))
    assert [unpack_batch(piece[0]).num_rows for piece in values] == [1, 1]


def test_each_task_writes_its_own_file_and_values_refer_to_it(tmp_path: Path) -> None:
    batch = pa.record_batch({"number": pa.array(np.arange(10_000))})
    with BatchPacker(tmp_path) as one, BatchPacker(tmp_path) as other:
        values = [one.pack(batch), other.pack(batch.slice(5)), one.pack(batch.slice(7))]
    assert len(list(tmp_path.iterdir())) == 2
    assert max(len(value[0].as_py()) for value in values) < 500
    assert [unpack_batch(value[0]).column(0)[0].as_py() for value in values] == [0, 5, 7]


def test_unpacked_rows_outlive_their_file(tmp_path: Path) -> None:
    with BatchPacker(tmp_path) as packing:
        value = packing.pack(BATCH)
    rows = unpack_batch(value[0])
    for file in tmp_path.iterdir():
        file.unlink()
    assert repr(rows.to_pylist()) == repr(BATCH.to_pylist())
