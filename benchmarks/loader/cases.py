"""Data of the loader benchmark: random arrays from a seed, as a dataset and as plain files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from farandole.shards import (
    LABEL,
    Group,
    LabelColumn,
    Manifest,
    Schema,
    ShardInfo,
    ShardWriter,
    content_digest,
    write_manifest,
)

_MIB = 2**20
_SHARD_BYTES = 128 * _MIB
_BLOCK_BYTES = 8 * _MIB
_CHUNK_ROWS = 50_000
ARRAYS = "arrays"
"""Folder of the plain arrays, next to the dataset."""
DATASET = "dataset"


@dataclass(frozen=True)
class Case:
    """Random rows of one schema.

    Args:
        name: Name on the command line.
        rows: Default number of rows.
        quick_rows: Number of rows of a quick run.
        about: Description of a row.
        group: The feature group.
    """

    name: str
    rows: int
    quick_rows: int
    about: str
    group: Group

    @property
    def schema(self) -> Schema:
        """Schema of the rows: the group and a label of two classes."""
        label = LabelColumn(kind="binary", column="y", classes=("0", "1"))
        return Schema(groups=(self.group,), label=label)

    def chunks(self, rows: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield rows in chunks; the same rows for the same case."""
        random = np.random.default_rng(17)
        for start in range(0, rows, _CHUNK_ROWS):
            count = min(_CHUNK_ROWS, rows - start)
            shape = (count, *self.group.shape)
            if self.group.kind == "numbers":
                values = random.standard_normal(shape, dtype=np.float32)
            else:
                values = random.integers(0, 256 if self.group.kind == "image" else 50_000, shape, self.group.dtype)
            yield {self.group.name: values, LABEL: random.integers(0, 2, count, dtype=np.int32)}


def _numbers() -> Group:
    return Group(name="features", kind="numbers", features=tuple(f"x{number}" for number in range(32)))


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("table", 1_000_000, 20_000, "32 float32 and a label", _numbers()),
        Case("table10", 10_000_000, 40_000, "32 float32 and a label", _numbers()),
        Case(
            "images",
            200_000,
            4_000,
            "an image of 32 x 32 x 3 uint8 and a label",
            Group(name="image", kind="image", features=("image",), shape=(32, 32, 3), value_type="uint8"),
        ),
        Case(
            "tokens",
            200_000,
            4_000,
            "a window of 512 int32 tokens and a label",
            Group(name="tokens", kind="tokens", features=("tokens",), shape=(512,), value_type="int32"),
        ),
    )
}
"""By name."""


def write_case(case: Case, directory: Path, rows: int, plain_rows: int) -> None:
    """Write the rows of a case as a dataset with shards and blocks of default size, and the first ones as `.npy`.

    Args:
        case: The case.
        directory: Directory in which `dataset/` and `arrays/` are created.
        rows: Rows of the dataset.
        plain_rows: Rows of the plain arrays, which other systems read.
    """
    schema = case.schema
    shards = max(1, math.ceil(rows * schema.row_bytes / _SHARD_BYTES))
    block_rows = max(1, _BLOCK_BYTES // schema.row_bytes)
    arrays = directory / ARRAYS
    arrays.mkdir(parents=True)
    plain = {
        name: np.lib.format.open_memmap(arrays / f"{name}.npy", "w+", dtype, (min(plain_rows, rows), *shape))
        for name, dtype, shape in (
            (case.group.name, case.group.dtype, case.group.shape),
            (LABEL, np.dtype(np.int32), ()),
        )
    }
    infos: list[ShardInfo] = []
    writer, written = None, 0
    for chunk in case.chunks(rows):
        if writer is None:
            writer = ShardWriter(directory / DATASET, "train", len(infos), schema, block_rows)
        writer.write(chunk)
        for name, values in chunk.items():
            kept = max(0, len(plain[name]) - written)
            plain[name][written : written + len(values)] = values[:kept]
        written += len(chunk[LABEL])
        if written >= rows * (len(infos) + 1) // shards:
            infos.append(writer.close())
            writer = None
    splits = {"train": tuple(infos), "validation": (), "test": ()}
    manifest = Manifest(
        digest=content_digest(schema, {}, splits),
        columns=schema,
        splits=splits,
        preprocessing={},
        statistics={},
        split_rule={},
        sources=(),
        request="",
        code_version={},
    )
    write_manifest(directory / DATASET, manifest)
