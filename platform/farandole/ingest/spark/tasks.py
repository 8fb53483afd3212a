"""What runs inside Spark's Python workers: packing rows, observing them, transforming them, and writing shards.

Spark turns each row into Arrow once. From then on it carries whole record batches, each packed into one binary value:
keeping, reading again and shuffling them costs Spark next to nothing for each row.

An error of ours must reach the driver as itself, but Spark carries only text: it is packed into one line of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import ERRORS, FarandoleError, PreparationError
from farandole.ingest.readers.row_batch import MalformedRowError
from farandole.ingest.spark.packed_batches import BatchPacker, unpack_batch
from farandole.ingest.spark.partitioning import ORDER, SPLIT, TRAIN, row_order, shard_numbers
from farandole.ingest.spark.worker_environment import load_environment
from farandole.preprocess import Observations, Preprocessing, RowStream
from farandole.privacy import Detector, Secret
from farandole.shards import ShardWriter
from farandole.storage import Location

PACKED = "rows binary, seen binary"
"""Spark's schema of what `packer` yields: packed rows, and once for each partition what was seen of it."""
OBSERVED = "seen binary"
"""Spark's schema of what `observer` yields."""
PIECES = "shard int, rows binary"
"""Spark's schema of what `dealer` yields: the number of a shard, counted over all splits, and packed rows of it."""
WRITTEN = "shard int, info string, raw_rows long"
"""Spark's schema of what `shard_writer` yields: for each shard its number, its entry in the manifest as JSON, and how
many raw rows went into it."""
_WRITTEN = pa.schema({"shard": pa.int32(), "info": pa.string(), "raw_rows": pa.int64()})
_STREAMED_ROWS = 10_000
"""How many texts are packed into windows at a time."""

ERROR_MARK = "@farandole-error "
"""What comes before an error of ours in the text of a failure."""

BatchFunction = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass
class PassStatistics:
    """What one pass saw.

    Args:
        observations: Of the training rows, for the preprocessing.
        split_rows: Rows by the index of their split; -1: of none.
        detector: What may be personal data.
    """

    observations: Observations = field(default_factory=Observations)
    split_rows: Counter[int] = field(default_factory=Counter)
    detector: Detector = field(default_factory=Detector)

    def add(self, preprocessing: Preprocessing, batch: pa.RecordBatch) -> None:
        """Take in rows with their places."""
        splits = batch.column(SPLIT).to_numpy()
        found, counts = np.unique(splits, return_counts=True)
        self.split_rows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        if not preprocessing.fitted:
            self.observations.add(preprocessing, batch.filter(pa.array(splits == TRAIN)))

    def merge(self, other: PassStatistics) -> None:
        """Take in what another pass over other rows saw."""
        self.observations.merge(other.observations)
        self.split_rows.update(other.split_rows)
        self.detector.merge(other.detector)


def pack_rows(
    preprocessing: Preprocessing, looked_at: Sequence[str] = (), scratch: Path | None = None
) -> BatchFunction:
    """A function for `mapInArrow`: rows with their places become packed batches, and are observed on the way.

    Args:
        preprocessing: The preprocessing, not fitted.
        looked_at: Columns that may hold personal data.
        scratch: A directory for the packed rows, if all tasks run on this machine.
    """

    def pack_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen = PassStatistics()
        with ErrorTransport(scratch=scratch), BatchPacker(scratch) as packing:
            for batch in batches:
                seen.detector.add(batch.select(list(looked_at)))
                seen.add(preprocessing, batch)
                for piece in packing.pieces(batch):
                    yield pa.record_batch({"rows": piece, "seen": pa.nulls(1, pa.binary())})
        yield pa.record_batch({"rows": pa.nulls(1, pa.binary()), "seen": pa.array([pickle.dumps(seen)], pa.binary())})

    return pack_rows


def observe_rows(preprocessing: Preprocessing) -> BatchFunction:
    """A function for `mapInArrow`: one pass of fitting over a partition of packed rows gives one row."""

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
    """A function for `mapInArrow`: packed rows are transformed and dealt to their shards, one packed piece for each.

    Texts that follow each other without regard to rows stay as they are: they need their final order first.

    Args:
        preprocessing: The preprocessing, fitted.
        shards_of_split: The number of shards of each split.
        scratch: A directory for the pieces, if all tasks run on this machine.
    """

    def deal(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _one_core()
        schema = preprocessing.schema
        with ErrorTransport(scratch=scratch), BatchPacker(scratch) as packing:
            for batch in batches:
                for value in batch.column("rows"):
                    raw = unpack_batch(value)
                    whole = not preprocessing.packs
                    rows = schema.record_batch(preprocessing.rows(raw)) if whole else raw.select(preprocessing.columns)
                    for name in ORDER:
                        rows = rows.append_column(name, raw.column(name))
                    splits, order = raw.column(SPLIT).to_numpy(), raw.column(ORDER[0]).to_numpy()
                    for shard, chosen in _runs(shard_numbers(splits, order, shards_of_split)):
                        piece = packing.pack(rows.take(pa.array(chosen)))
                        yield pa.record_batch({"shard": pa.array([shard], pa.int32()), "rows": piece})

    return deal


@dataclass(frozen=True)
class ShardPosition:
    """Where one shard goes: its split, and its number in the split."""

    split: str
    index: int


def write_shards(
    preprocessing: Preprocessing,
    directory: Location,
    places: list[ShardPosition],
    block_rows: int,
    secret: Secret | None = None,
    environment: Path | None = None,
) -> BatchFunction:
    """A function for `mapInArrow`: all pieces of a shard, in whatever order they come, become one file, its rows in
    their final order; each shard gives one row. A task holds its shard in memory, up to twice.

    Args:
        preprocessing: What the rows were made by, and what makes windows of packed texts.
        directory: The dataset directory, local or remote.
        places: The shards by their numbers.
        block_rows: Rows of a record batch.
        environment: The file with the environment variables that a remote directory needs.
    """

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _one_core()
        load_environment(environment)
        pieces: dict[int, list[pa.Scalar]] = {}
        finished: list[dict[str, Any]] = []
        with ErrorTransport(directory):
            for batch in batches:
                for shard, value in zip(batch.column("shard").to_pylist(), batch.column("rows"), strict=True):
                    pieces.setdefault(shard, []).append(value)
            for shard in sorted(pieces):
                place = places[shard]
                writer = ShardWriter(directory, place.split, place.index, preprocessing.schema, block_rows, secret)
                finished.append({"shard": shard} | _write_shard(writer, preprocessing, pieces.pop(shard), block_rows))
        yield pa.RecordBatch.from_pylist(finished, _WRITTEN)

    return write


def decode_error(text: str) -> FarandoleError | None:
    """The error of ours that a worker packed into its message, if there is one."""
    _, mark, rest = text.partition(ERROR_MARK)
    if not mark:
        return None
    data, _ = json.JSONDecoder().raw_decode(rest)
    kinds: dict[str, type[FarandoleError]] = {**ERRORS, MalformedRowError.__name__: MalformedRowError}
    return kinds[data["kind"]](data["message"], detail=text)


def _write_shard(
    writer: ShardWriter, preprocessing: Preprocessing, values: list[pa.Scalar], block_rows: int
) -> dict[str, Any]:
    """Write a shard's rows in the order of their hashes; what the driver is told of it."""
    try:
        pieces = [unpack_batch(value) for value in values]
        values.clear()
        order = row_order(*(np.concatenate([piece.column(name).to_numpy() for piece in pieces]) for name in ORDER))
        blocks = _windows if preprocessing.packs else _blocks
        for block in blocks(preprocessing, pieces, order, block_rows):
            writer.write(block)
        return {"info": writer.close().model_dump_json(), "raw_rows": len(order)}
    except BaseException:
        writer.abandon()
        raise


def _blocks(
    preprocessing: Preprocessing, pieces: list[pa.RecordBatch], order: np.ndarray, block_rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """Transformed rows in order; the pieces are given up."""
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
    """The windows that texts in order fill; the pieces are given up."""
    texts = pa.Table.from_batches(pieces).combine_chunks()
    pieces.clear()
    stream = RowStream(preprocessing)
    for start in range(0, len(order), _STREAMED_ROWS):
        for batch in texts.take(pa.array(order[start : start + _STREAMED_ROWS])).combine_chunks().to_batches():
            yield stream.add(batch)
    yield stream.end()


def _runs(shards: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each shard that occurs, and the rows that belong to it."""
    order = np.argsort(shards, kind="stable")
    found, counts = np.unique(shards, return_counts=True)
    stops = np.cumsum(counts)
    for shard, start, stop in zip(found.tolist(), stops - counts, stops, strict=True):
        yield shard, order[start:stop]


def _one_core() -> None:
    """Spark runs a worker on each core already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class ErrorTransport:
    """Packs errors of ours, and a full disk, into text that `error_in` understands.

    Args:
        directory: Where is written to, if anywhere.
        scratch: Where is written to for the length of the preparation, if anywhere.
    """

    def __init__(self, directory: Location | None = None, *, scratch: Path | None = None) -> None:
        # Shards for a remote directory are drafted in this machine's temporary one.
        self._directory = Path(tempfile.gettempdir()) if isinstance(directory, str) else directory
        self._scratch = scratch

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error = PreparationError(self._full(error))
        if isinstance(error, FarandoleError):
            packed = json.dumps({"kind": type(error).__name__, "message": str(error)})
            raise RuntimeError(ERROR_MARK + packed) from error  # noqa: TRY004 - not about a type

    def _full(self, error: OSError) -> str:
        reason = os.strerror(error.errno or errno.ENOSPC)
        if self._scratch is not None:
            return f"{self._scratch}: {reason}; free some space, or set SPARK_LOCAL_DIRS to a directory with more"
        place = self._directory or error.filename
        return f"data.output: {place}: {reason}; free some space, or choose another data.output"
