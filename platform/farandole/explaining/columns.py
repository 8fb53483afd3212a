"""Raw columns and the values that they become: one column may be several numbers, ids or tensors of several groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.preprocess import Preprocessing
from farandole.preprocess.image import ImageTransform
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.tensor import TensorTransform
from farandole.preprocess.text import TextTransform
from farandole.preprocess.times import TimeNumbersTransform
from farandole.preprocess.transform import ColumnsTransform, Transform
from farandole.preprocess.values import arrow_type
from farandole.shards import Group


@dataclass(frozen=True)
class ColumnPart:
    """The values of one group that one declared feature makes.

    Args:
        column: The raw column.
        transform: The feature's transform.
        group: The group.
        start: The first of its positions in the group; of tensors, images and tokens 0.
        stop: The position after the last one; of tensors, images and tokens 0: they are the whole group.
    """

    column: str
    transform: Transform
    group: Group
    start: int = 0
    stop: int = 0

    @property
    def is_whole(self) -> bool:
        """True if the feature is the whole group."""
        return self.stop == 0

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the feature's part of an array of the group, `[rows, ...]`, as a view."""
        return values if self.is_whole else values[:, self.start : self.stop]


class ColumnMap:
    """The parts of all raw columns.

    Args:
        preprocessing: The fitted preprocessing.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._types = preprocessing.types
        groups = {group.name: group for group in preprocessing.schema.groups}
        self.parts = tuple(_find_parts(preprocessing, groups))

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns, in the order of their first feature."""
        return tuple(dict.fromkeys(part.column for part in self.parts))

    def of(self, column: str) -> list[ColumnPart]:
        """Return the parts of a raw column."""
        return [part for part in self.parts if part.column == column]

    def raw_type(self, column: str) -> pa.DataType:
        """Return the type of a raw column."""
        return arrow_type(self._types[column])

    def sums(self, attributions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add up what belongs to each raw column.

        Args:
            attributions: `{group: [rows, ...]}`; groups that are missing (masks) count as 0.

        Returns:
            Column to float64 `[rows]`.
        """
        found: dict[str, np.ndarray] = {}
        for part in self.parts:
            values = attributions.get(part.group.name)
            if values is not None:
                own = part.of(values).sum(axis=tuple(range(1, values.ndim)), dtype=np.float64)
                found[part.column] = found.get(part.column, 0.0) + own
        rows = len(next(iter(attributions.values()))) if attributions else 0
        return {column: found.get(column, np.zeros(rows)) for column in self.columns}

    def replace(self, features: dict[str, np.ndarray], column: str, new: Mapping[str, np.ndarray]) -> None:
        """Overwrite the values of a raw column in place, with those of other rows of features."""
        for part in self.of(column):
            part.of(features[part.group.name])[...] = part.of(new[part.group.name])


def _find_parts(preprocessing: Preprocessing, groups: Mapping[str, Group]) -> Iterator[ColumnPart]:
    used: dict[str, int] = defaultdict(int)
    for transform in preprocessing.transforms:
        for own in transform.groups:
            start = used[own.name]
            if isinstance(transform, ColumnsTransform):
                used[own.name] += len(own.features)
                yield ColumnPart(transform.column, transform, groups[own.name], start, used[own.name])
            else:
                yield ColumnPart(transform.column, transform, groups[own.name])


@dataclass(frozen=True)
class Baseline:
    """The row that attributions compare with.

    Args:
        features: `{group: [1, ...]}`, without masks: a row keeps its own.
        meaning: Raw column to what the baseline has there, in words.
    """

    features: dict[str, np.ndarray]
    meaning: dict[str, str]


def make_baseline(columns: ColumnMap, statistics: Mapping[str, Mapping[str, Any]]) -> Baseline:
    """Return the baseline: mean numbers, missing categories and times, black pictures, padding in place of tokens.

    Args:
        columns: The parts of the raw columns.
        statistics: Raw column to statistics of the training rows.
    """
    features: dict[str, np.ndarray] = {}
    meaning: dict[str, list[str]] = {}
    for part in columns.parts:
        group = part.group
        if group.kind == "mask":
            continue
        values = features.setdefault(group.name, np.zeros((1, *group.shape), group.dtype))
        found, words = _baseline_of(part, columns.raw_type(part.column), statistics.get(part.column, {}).get("mean"))
        if found is not None:
            part.of(values)[...] = found
        meaning.setdefault(part.column, [])
        if words not in meaning[part.column]:
            meaning[part.column].append(words)
    return Baseline(features, {column: ", ".join(words) for column, words in meaning.items()})


def _baseline_of(part: ColumnPart, raw_type: pa.DataType, mean: float | None) -> tuple[np.ndarray | None, str]:
    """Return the values of a part, `[1, ...]` (None: zeros), and what they mean."""
    transform = part.transform
    if isinstance(transform, NumericTransform):
        return _mean_number(transform, mean)
    if isinstance(transform, TimeNumbersTransform):
        numbers = [_mean_number(each, None)[0] for each in transform.parts]
        return np.concatenate(numbers, axis=1), "typical time"
    if isinstance(transform, TextTransform):
        return None, "padding"
    if isinstance(transform, ImageTransform):
        return None, "black"
    if isinstance(transform, TensorTransform):
        return None, "zeros"
    assert isinstance(transform, ColumnsTransform)
    return transform.apply(pa.nulls(1, raw_type)), "missing"


def _mean_number(transform: NumericTransform, mean: float | None) -> tuple[np.ndarray, str]:
    """Return the columns of the mean of the training rows."""
    if mean is None and transform.spec.scale == "standard":
        # Zero is the mean of the numbers after they were imputed, clipped and logged.
        return np.zeros((1, len(transform.features)), np.float32), "mean"
    if mean is not None:
        return transform.apply(pa.array([mean], pa.float64())), f"{mean:.6g} (mean)"
    fill = transform.fill or 0.0
    return transform.apply(pa.array([fill], pa.float64())), f"{fill:.6g}"
