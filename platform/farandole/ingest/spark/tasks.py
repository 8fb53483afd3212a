"""Functions that run in Spark's Python workers: pack rows, observe them, deal them to shards, write shards.

Spark turns each row into Arrow once. After that it carries whole record batches, each packed into one binary value:
storing, rereading and shuffling them costs Spark next to nothing per row.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from farandole.ingest.spark.column_names import BatchFunction
from farandole.ingest.spark.error_transport import ErrorTransport
from farandole.ingest.spark.packed_batches import BatchPacker, unpack_batch
from farandole.ingest.spark.partitioning import ORDER, SPLIT, TRAIN, row_order, shard_numbers
from farandole.ingest.spark.worker_environment import load_environment
from farandole.preprocess import Observations, Preprocessing, RowStream
from farandole.privacy import Detector, Secret
from farandole.shards import ShardWriter
from farandole.storage import Location

PACKED = "rows binary, seen binary"
"""Spark schema of the rows of `pack_rows`: packed rows, and one row per partition with the pickled statistics of it."""
OBSERVED = "seen binary"
"""Spark schema of the rows of `observe_rows`."""
PIECES = "shard int, rows binary"
"""Spark schema of the rows of `deal_to_shards`: the number of a shard over all splits, and packed rows of it."""
WRITTEN = "shard int, info string, raw_rows long"
"""Spark schema of the rows of `write_shards`: a shard's number, its entry in the manifest as JSON, and the number of
raw rows that went into it."""
_WRITTEN = pa.schema({"shard": pa.int32(), "info": pa.string(), "raw_rows": pa.int64()})
_STREAMED_ROWS = 10_000
"""Number of texts that are packed into windows at a time."""


@dataclass
class PassStatistics:
    """Statistics that one pass over the rows collects.

    Args:
        observations: Statistics of the training rows, for the preprocessing.
        split_rows: Rows by the index of their split; -1: rows of no split.
        detector: Counts of values that may be personal data.
    """

    observations: Observations = field(default_factory=Observations)
    split_rows: Counter[int] = field(default_factory=Counter)
    detector: Detector = field(default_factory=Detector)

    def add(self, preprocessing: Preprocessing, batch: pa.RecordBatch) -> None:
        """Add rows with their partition columns."""
        splits = batch.column(SPLIT).to_numpy()
        found, counts = np.unique(splits, return_counts=True)
        self.split_rows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        if not preprocessing.fitted:
            self.observations.add(preprocessing, batch.filter(pa.array(splits == TRAIN)))

    def merge(self, other: PassStatistics) -> None:
        """Add the statistics of other rows."""
        self.observations.merge(other.observations)
        self.split_rows.update(other.split_rows)
        self.detector.merge(other.detector)


def pack_rows(
    preprocessing: Preprocessing, inspected: Sequence[str] = (), scratch: Path | None = None
) -> BatchFunction:
    """Make the function for `mapInArrow` that packs rows with their partition columns, and observes them on the way.

    Args:
        preprocessing: The preprocessing, not fitted.
        inspected: The columns that may hold personal data.
        scratch: A directory for the packed rows, if all tasks run on this machine.
    """

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen = PassStatistics()
        with ErrorTransport(scratch=scratch), BatchPacker(scratch) as packer:
            for batch in batches:
                seen.detector.add(batch.select(list(inspected)))
                seen.add(preprocessing, batch)
                for piece in packer.pieces(batch):
                    yield pa.record_batch({"rows": piece, "seen": pa.nulls(1, pa.binary())})
        yield pa.record_batch({"rows": pa.nulls(1, pa.binary()), "seen": pa.array([pickle.dumps(seen)], pa.binary())})

    return pack


def observe_rows(preprocessing: Preprocessing) -> BatchFunction:
    """Make the function for `mapInArrow` that observes packed rows; it yields one row per partition.

    Args:
        preprocessing: The preprocessing, as far as it is fitted.
    """

    def observe(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen = PassStatistics()
        with ErrorTransport():
            for batch in batches:
                for value in batch.column("rows"):
                    seen.add(preprocessing, unpack_batch(value))
        yield pa.record_batch({"seen": pa.array([pickle.dumps(seen)], pa.binary())})

    return observe


def deal_to_shards(
    preprocessing: Preprocessing, shards_of_split: list[int], scratch: Path | None = None
) -> BatchFunction:
    """Make the function for `mapInArrow` that transforms packed rows and deals them to their shards.

    It yields one packed piece per batch and shard. Texts that are packed into windows stay as they are, because they
    need their final order first.

    Args:
        preprocessing: The preprocessing, fitted.
        shards_of_split: The number of shards of each split.
        scratch: A directory for the pieces, if all tasks run on this machine.
    """

    def deal(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _use_one_core()
        schema = preprocessing.schema
        with ErrorTransport(scratch=scratch), BatchPacker(scratch) as packer:
            for batch in batches:
                for value in batch.column("rows"):
                    raw = unpack_batch(value)
                    whole = not preprocessing.packs
                    rows = schema.record_batch(preprocessing.rows(raw)) if whole else raw.select(preprocessing.columns)
                    for name in ORDER:
                        rows = rows.append_column(name, raw.column(name))
                    splits, order = raw.column(SPLIT).to_numpy(), raw.column(ORDER[0]).to_numpy()
                    for shard, chosen in _rows_by_shard(shard_numbers(splits, order, shards_of_split)):
                        piece = packer.pack(rows.take(pa.array(chosen)))
                        yield pa.record_batch({"shard": pa.array([shard], pa.int32()), "rows": piece})

    return deal


@dataclass(frozen=True)
class ShardPosition:
    """The position of one shard in the dataset: its split, and its number in the split."""

    split: str
    index: int


def write_shards(
    preprocessing: Preprocessing,
    directory: Location,
    positions: list[ShardPosition],
    block_rows: int,
    secret: Secret | None = None,
    environment: Path | None = None,
) -> BatchFunction:
    """Make the function for `mapInArrow` that writes shards; it yields one row per shard.

    All pieces of a shard, in whatever order they arrive, become one file, with its rows in their final order. A task
    holds its shard in memory, up to twice.

    Args:
        preprocessing: The preprocessing that made the rows, and that makes windows of packed texts.
        directory: The dataset directory, local or remote.
        positions: The shards by their numbers.
        block_rows: The rows of a record batch.
        secret: The key to encrypt shards with.
        environment: The file with the environment variables that a remote directory needs.
    """

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _use_one_core()
        load_environment(environment)
        pieces: dict[int, list[pa.Scalar]] = {}
        finished: list[dict[str, int | str]] = []
        with ErrorTransport(directory):
            for batch in batches:
                for shard, value in zip(batch.column("shard").to_pylist(), batch.column("rows"), strict=True):
                    pieces.setdefault(shard, []).append(value)
            for shard in sorted(pieces):
                split, index = positions[shard].split, positions[shard].index
                writer = ShardWriter(directory, split, index, preprocessing.schema, block_rows, secret)
                info, raw_rows = _write_shard(writer, preprocessing, pieces.pop(shard), block_rows)
                finished.append({"shard": shard, "info": info, "raw_rows": raw_rows})
        yield pa.RecordBatch.from_pylist(finished, _WRITTEN)

    return write


def _write_shard(
    writer: ShardWriter, preprocessing: Preprocessing, values: list[pa.Scalar], block_rows: int
) -> tuple[str, int]:
    """Write a shard's rows in the order of their hashes; return its manifest entry and the number of raw rows."""
    try:
        pieces = [unpack_batch(value) for value in values]
        values.clear()
        order = row_order(*(np.concatenate([piece.column(name).to_numpy() for piece in pieces]) for name in ORDER))
        blocks = _windows if preprocessing.packs else _blocks
        for block in blocks(preprocessing, pieces, order, block_rows):
            writer.write(block)
        return writer.close().model_dump_json(), len(order)
    except BaseException:
        writer.abandon()
        raise


def _blocks(
    preprocessing: Preprocessing, pieces: list[pa.RecordBatch], order: np.ndarray, block_rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield transformed rows in order; `pieces` is emptied to free memory."""
    parts = [preprocessing.schema.arrays(piece) for piece in pieces]
    pieces.clear()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    parts.clear()
    for start in range(0, len(order), block_rows):
        chosen = order[start : start + block_rows]
        yield {name: values.take(chosen, axis=0) for name, values in columns.items()}


def _windows(
    preprocessing: Preprocessing, pieces: list[pa.RecordBatch], order: np.ndarray, _: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the windows that texts in order fill; `pieces` is emptied to free memory."""
    texts = pa.Table.from_batches(pieces).combine_chunks()
    pieces.clear()
    stream = RowStream(preprocessing)
    for start in range(0, len(order), _STREAMED_ROWS):
        for batch in texts.take(pa.array(order[start : start + _STREAMED_ROWS])).combine_chunks().to_batches():
            yield stream.add(batch)
    yield stream.end()


def _rows_by_shard(shards: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each shard that occurs, with the indices of its rows."""
    order = np.argsort(shards, kind="stable")
    found, counts = np.unique(shards, return_counts=True)
    stops = np.cumsum(counts)
    for shard, start, stop in zip(found.tolist(), stops - counts, stops, strict=True):
        yield shard, order[start:stop]


def _use_one_core() -> None:
    """Keep libraries from starting threads: Spark runs a worker on each core already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
