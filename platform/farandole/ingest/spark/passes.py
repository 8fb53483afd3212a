"""Passes of Spark over the rows of a dataset: pack them, fit the preprocessing, write the shards."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from farandole.errors import PreparationError
from farandole.ingest.spark.column_names import BatchFunction, map_in_arrow
from farandole.ingest.spark.partitioning import WIDE_ROW, narrow_rows
from farandole.ingest.spark.session import batches_by_rows, cached
from farandole.ingest.spark.tasks import (
    OBSERVED,
    PACKED,
    PIECES,
    WRITTEN,
    PassStatistics,
    ShardPosition,
    deal_to_shards,
    observe_rows,
    write_shards,
)
from farandole.ingest.spark.worker_environment import environment_file
from farandole.preprocess import Observations, Preprocessing, learn, statistics
from farandole.privacy import Secret
from farandole.shards import ShardInfo
from farandole.spec import SPLITS, Shards
from farandole.storage import Location

_MIB = 2**20


@contextmanager
def packed_rows(frame: DataFrame, pack: BatchFunction) -> Iterator[tuple[DataFrame, PassStatistics]]:
    """Provide the packed rows of a frame, cached for the length of the block, and the statistics of the pass.

    Args:
        frame: Rows with their partition columns.
        pack: The result of `pack_rows`.
    """
    narrow = narrow_rows(frame)
    if narrow is not None:
        with ExitStack() as stack:
            try:
                with batches_by_rows(frame.sparkSession):
                    packed = stack.enter_context(cached(map_in_arrow(narrow, pack, PACKED)))
                    seen = _merge_statistics(packed.where("seen IS NOT NULL"))
            except PySparkException as error:
                if WIDE_ROW not in str(error):
                    raise
            else:
                yield packed.where("rows IS NOT NULL").select("rows"), seen
                return
    with cached(map_in_arrow(frame, pack, PACKED)) as packed:
        yield packed.where("rows IS NOT NULL").select("rows"), _merge_statistics(packed.where("seen IS NOT NULL"))


def fit_preprocessing(
    rows: DataFrame, preprocessing: Preprocessing, observations: Observations
) -> tuple[Preprocessing, dict[str, dict[str, Any]]]:
    """Fit the preprocessing, with as many passes over the rows as it needs.

    Args:
        rows: The packed rows.
        preprocessing: The preprocessing, not fitted.
        observations: The observations of the pass that packed the rows.

    Returns:
        The fitted preprocessing, and the statistics of the observed columns.
    """
    return fit_by(
        lambda partly: _merge_statistics(rows.mapInArrow(observe_rows(partly), OBSERVED)), preprocessing, observations
    )


def fit_by(
    observe: Callable[[Preprocessing], PassStatistics], preprocessing: Preprocessing, observations: Observations
) -> tuple[Preprocessing, dict[str, dict[str, Any]]]:
    """Fit the preprocessing, with as many passes over the rows as it needs.

    Args:
        observe: Passes over the rows once, with the preprocessing as far as it is fitted.
        preprocessing: The preprocessing, not fitted.
        observations: The observations of the first pass.

    Returns:
        The fitted preprocessing, and the statistics of the observed columns.
    """
    column_statistics = statistics(preprocessing, observations)
    while not preprocessing.fitted:
        column_statistics = statistics(preprocessing, observations) | column_statistics
        preprocessing = learn(preprocessing, observations)
        if not preprocessing.fitted:
            observations = observe(preprocessing).observations
    return preprocessing, dict(sorted(column_statistics.items()))


@dataclass(frozen=True)
class ShardPlan:
    """The shards of a dataset before they are written.

    Args:
        shards_of_split: The number of shards of each split.
        positions: The shards by their numbers over all splits.
        block_rows: The rows of a record batch.
    """

    shards_of_split: list[int]
    positions: list[ShardPosition]
    block_rows: int


def plan_shards(preprocessing: Preprocessing, split_rows: list[int], sizes: Shards) -> ShardPlan:
    """Divide the rows of each split into shards.

    Args:
        preprocessing: The preprocessing, fitted.
        split_rows: The rows of each split.
        sizes: The sizes of shards and blocks.
    """
    shard_rows = max(1, int(sizes.size_mib * _MIB) // preprocessing.schema.row_bytes)
    block_rows = max(1, int(sizes.block_mib * _MIB) // preprocessing.schema.row_bytes)
    shards_of_split = [math.ceil(preprocessing.num_rows(count) / shard_rows) for count in split_rows]
    positions = [
        ShardPosition(split, index) for split, num in zip(SPLITS, shards_of_split, strict=True) for index in range(num)
    ]
    return ShardPlan(shards_of_split, positions, block_rows)


def write_splits(
    rows: DataFrame,
    preprocessing: Preprocessing,
    split_rows: list[int],
    sizes: Shards,
    directory: Location,
    secret: Secret | None,
    scratch: Path | None,
) -> dict[str, tuple[ShardInfo, ...]]:
    """Write all shards; only those that the task attempts kept by Spark report are in the result.

    Args:
        rows: The packed rows.
        preprocessing: The preprocessing, fitted.
        split_rows: The rows of each split.
        sizes: The sizes of shards and blocks.
        directory: The dataset directory.
        secret: The key to encrypt shards with.
        scratch: A directory by which tasks pass data to each other, if all run on this machine.

    Raises:
        PreparationError: The numbers of rows differ from `split_rows`.
    """
    plan = plan_shards(preprocessing, split_rows, sizes)
    pieces = rows.mapInArrow(deal_to_shards(preprocessing, plan.shards_of_split, scratch), PIECES)
    # repartitionById sends a row to exactly the partition that its id names (Spark 4.1).
    by_shard = pieces.repartitionById(len(plan.positions), F.col("shard"))
    with environment_file(directory) as environment:
        write = write_shards(preprocessing, directory, plan.positions, plan.block_rows, secret, environment)
        written = by_shard.mapInArrow(write, WRITTEN).collect()
    return splits_of([row.asDict() for row in written], plan, split_rows)


def splits_of(
    written: Sequence[Mapping[str, Any]], plan: ShardPlan, split_rows: list[int]
) -> dict[str, tuple[ShardInfo, ...]]:
    """Return the shards of each split.

    Args:
        written: The rows of `write_shards`.
        plan: The plan that they follow.
        split_rows: The rows of each split.

    Raises:
        PreparationError: The numbers of rows differ from `split_rows`.
    """
    positions = plan.positions
    infos = {row["shard"]: ShardInfo.model_validate_json(row["info"]) for row in written}
    splits: dict[str, tuple[ShardInfo, ...]] = dict.fromkeys(SPLITS, ())
    for number in sorted(infos):
        splits[positions[number].split] += (infos[number],)
    found = [sum(row["raw_rows"] for row in written if positions[row["shard"]].split == split) for split in SPLITS]
    if found != split_rows:
        raise PreparationError(
            f"data: {sum(split_rows)} rows were read and {sum(found)} written, because the sources changed meanwhile or"
            " the query returns other rows each time: prepare again"
        )
    return splits


def _merge_statistics(rows: DataFrame) -> PassStatistics:
    """Merge the statistics of all partitions."""
    seen = PassStatistics()
    for row in rows.select("seen").collect():
        seen.merge(pickle.loads(row["seen"]))
    return seen
