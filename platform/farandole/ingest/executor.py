"""What runs inside Spark's Python workers: observing batches, and writing shards.

An error of ours must reach the driver as itself, but Spark carries only text: it is packed into one line of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from farandole.errors import ERRORS, FarandoleError, PreparationFailed
from farandole.ingest.environment import enter_environment
from farandole.ingest.rows import MalformedRow
from farandole.preprocess import Observations, Preprocessing, RowStream
from farandole.privacy import Secret
from farandole.shards import Place, ShardWriter

SHARD = "_farandole_shard"
"""The column that says which shard a row belongs to, counted over all splits."""
OBSERVED = "seen binary"
"""Spark's schema of what `observer` yields."""
WRITTEN = "shard int, info string, raw_rows long"
"""Spark's schema of what `shard_writer` yields: for each shard its number, its entry in the manifest as JSON, and how
many raw rows went into it."""
_WRITTEN = pa.schema({"shard": pa.int32(), "info": pa.string(), "raw_rows": pa.int64()})

MARK = "@farandole-error "
"""What comes before an error of ours in the text of a failure."""

BatchFunction = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def observer(preprocessing: Preprocessing) -> BatchFunction:
    """A function for `mapInArrow`: one pass of fitting over a partition gives one row."""

    def observe(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen = Observations()
        with speaking():
            for batch in batches:
                seen.add(preprocessing, batch)
        yield pa.record_batch({"seen": pa.array([pickle.dumps(seen)], pa.binary())})

    return observe


@dataclass(frozen=True)
class ShardPlace:
    """Where one shard goes: its split, and its number in the split."""

    split: str
    index: int


def shard_writer(
    preprocessing: Preprocessing,
    directory: Place,
    places: list[ShardPlace],
    block_rows: int,
    secret: Secret | None = None,
    environment: Path | None = None,
) -> BatchFunction:
    """A function for `mapInArrow`: rows that come sorted by `SHARD` become shards, each of which gives one row.

    Args:
        preprocessing: Makes columns of raw rows.
        directory: The dataset directory, local or remote.
        places: The shards by their numbers.
        block_rows: Rows of a record batch.
        environment: The file with the environment variables that a remote directory needs.
    """

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Spark runs a worker on each core already
        open_shard: _OpenShard | None = None
        finished: list[dict[str, Any]] = []
        enter_environment(environment)
        with speaking(directory):
            try:
                for batch in batches:
                    for number, rows in _runs(batch):
                        if open_shard is None or number != open_shard.number:
                            if open_shard is not None:
                                finished.append(open_shard.close())
                            place = places[number]
                            writer = ShardWriter(
                                directory, place.split, place.index, preprocessing.schema, block_rows, secret
                            )
                            open_shard = _OpenShard(number, writer, RowStream(preprocessing))
                        open_shard.write(rows)
                if open_shard is not None:
                    finished.append(open_shard.close())
            except BaseException:
                if open_shard is not None:
                    open_shard.writer.abandon()
                raise
        yield pa.RecordBatch.from_pylist(finished, _WRITTEN)

    return write


@dataclass(frozen=True)
class _OpenShard:
    """A shard that is being written."""

    number: int
    writer: ShardWriter
    stream: RowStream

    def write(self, batch: pa.RecordBatch) -> None:
        self.writer.write(self.stream.add(batch))

    def close(self) -> dict[str, Any]:
        """Write what is left; what the driver is told."""
        rest = self.stream.end()
        if rest:
            self.writer.write(rest)
        info = self.writer.close().model_dump_json()
        return {"shard": self.number, "info": info, "raw_rows": self.stream.raw_rows}


def error_in(text: str) -> FarandoleError | None:
    """The error of ours that a worker packed into its message, if there is one."""
    _, mark, rest = text.partition(MARK)
    if not mark:
        return None
    data, _ = json.JSONDecoder().raw_decode(rest)
    kinds: dict[str, type[FarandoleError]] = {**ERRORS, MalformedRow.__name__: MalformedRow}
    return kinds[data["kind"]](data["message"], detail=text)


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Slices of a batch whose rows belong to one shard; the rows are sorted by it."""
    encoded = batch.column(SHARD).to_numpy()
    start = 0
    while start < len(encoded):
        shard = int(encoded[start])
        stop = int(encoded.searchsorted(shard, side="right"))
        yield shard, batch.slice(start, stop - start)
        start = stop


class speaking:
    """Packs errors of ours, and a full disk, into text that `error_in` understands.

    Args:
        directory: Where is written to, if anywhere.
    """

    def __init__(self, directory: Place | None = None) -> None:
        # Shards for a remote directory are drafted in this machine's temporary one.
        self._directory = Path(tempfile.gettempdir()) if isinstance(directory, str) else directory

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = self._directory or error.filename
            error = PreparationFailed(
                f"data.output: {place}: {error.strerror}; free some space, or choose another data.output"
            )
        if isinstance(error, FarandoleError):
            packed = json.dumps({"kind": type(error).__name__, "message": str(error)})
            raise RuntimeError(MARK + packed) from error  # noqa: TRY004 - not about a type
