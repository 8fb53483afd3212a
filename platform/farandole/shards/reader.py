"""Opens a dataset and maps its blocks into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from farandole.errors import DatasetError
from farandole.shards.manifest import Manifest, ShardInfo, read_manifest


class Dataset:
    """A dataset directory with its manifest.

    Args:
        directory: Where the manifest lies.

    Raises:
        DatasetError: There is no manifest, or it is damaged.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.manifest: Manifest = read_manifest(directory)

    def split(self, name: str) -> SplitReader:
        """The rows of one split, block by block."""
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise DatasetError(f"{self.directory}: no split {name!r}; it has {known}")
        return SplitReader(self, self.manifest.splits[name])


class SplitReader:
    """The blocks of a split, numbered over all its shards; each is mapped when it is first asked for."""

    def __init__(self, dataset: Dataset, shards: tuple[ShardInfo, ...]) -> None:
        self._directory = dataset.directory
        self._schema = dataset.manifest.columns
        self._places = [(shard, index) for shard in shards for index in range(len(shard.blocks))]
        self._open: dict[str, pa.RecordBatchFileReader] = {}
        self.block_rows: tuple[int, ...] = tuple(block.rows for shard in shards for block in shard.blocks)

    @property
    def rows(self) -> int:
        """The number of rows in all blocks."""
        return sum(self.block_rows)

    def block(self, number: int) -> dict[str, np.ndarray]:
        """Read-only views of one block: `[rows, size]` for each group, `[rows]` for the label.

        Raises:
            DatasetError: The shard is missing, cut short or not the file that the manifest describes.
        """
        shard, index = self._places[number]
        reader = self._open.get(shard.file) or self._map(shard)
        return self._schema.arrays(reader.get_batch(index))

    def _map(self, shard: ShardInfo) -> pa.RecordBatchFileReader:
        path = self._directory / shard.file
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DatasetError(f"{path}: the shard is missing; prepare the dataset again") from error
        if size != shard.bytes:
            raise DatasetError(f"{path}: {size} bytes, the manifest says {shard.bytes}; prepare the dataset again")
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: not an Arrow IPC file ({error}); prepare the dataset again") from error
        if not reader.schema.equals(self._schema.arrow) or reader.num_record_batches != len(shard.blocks):
            raise DatasetError(f"{path}: other columns or blocks than the manifest says; prepare the dataset again")
        self._open[shard.file] = reader
        return reader
