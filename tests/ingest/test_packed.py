from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from farandole.ingest import packed
from farandole.ingest.packed import pack, packed_pieces, unpack

BATCH = pa.record_batch(
    {
        "text": pa.array(["a", None, "café", ""]),
        "list": pa.array([[1], [], None, [2, 3]], pa.list_(pa.int32())),
        "number": pa.array([1.5, float("nan"), None, -0.0]),
    }
)


@pytest.mark.parametrize("batch", [BATCH, BATCH.slice(1, 2), BATCH.slice(0, 0)])
def test_a_batch_is_one_value_and_back(batch: pa.RecordBatch) -> None:
    value = pack(batch)
    assert (len(value), value.null_count) == (1, 0)
    assert repr(unpack(value[0]).to_pylist()) == repr(batch.to_pylist())


def test_pieces_are_of_moderate_size_and_hold_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_PIECE_BYTES", 1000)
    batch = pa.record_batch({"number": pa.array(np.arange(1001))})
    pieces = [unpack(piece[0]) for piece in packed_pieces(batch)]
    assert max(piece.nbytes for piece in pieces) <= 1000
    assert [row for piece in pieces for row in piece.column(0).to_pylist()] == list(range(1001))


def test_no_rows_are_no_pieces() -> None:
    assert list(packed_pieces(BATCH.slice(0, 0))) == []


def test_a_row_larger_than_a_piece_is_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_PIECE_BYTES", 10)
    batch = pa.record_batch({"text": pa.array(["x" * 100, "y" * 100])})
    assert [unpack(piece[0]).num_rows for piece in packed_pieces(batch)] == [1, 1]
