"""Fitting on the training split, in passes: each pass reads all rows once, in any order and in any pieces.

while not preprocessing.fitted:
    observations = [observe(preprocessing, batch) for batch in batches]      # on many machines
    preprocessing = learn(preprocessing, merge(observations))                # on one
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.label import ClassLabel, NumberLabel
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.preprocessing import Preprocessing
from farandole.preprocess.summary import Summary
from farandole.preprocess.transform import ROUNDED, VALUES, Transform

LABEL_KEY = ":label"
"""The key of the label's values, and the start of the keys `:label:MEASURE`. A feature's keys are its name and
`NAME:MEASURE`, and no name has a colon or is empty."""
_MOST_FREQUENT = 10
"""The number of values that the statistics of a category list."""
_MAX_CLASSES = 1000
"""The number of classes that the statistics of the label list: with all of them, nobody has to count."""


@dataclass
class ColumnFacts:
    """Facts of one raw column of any type.

    Args:
        rows: Number of rows.
        missing: Number of rows without a value.
        earliest: The first time; None: it holds no times.
        latest: The last time.
    """

    rows: int = 0
    missing: int = 0
    earliest: datetime.date | None = None
    latest: datetime.date | None = None

    def add(self, values: pa.Array) -> None:
        """Include more rows."""
        self.rows += len(values)
        self.missing += values.null_count
        if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
            self._extend(pc.min(values).as_py(), pc.max(values).as_py())

    def merge(self, other: ColumnFacts) -> None:
        """Include the rows of another part."""
        self.rows += other.rows
        self.missing += other.missing
        self._extend(other.earliest, other.latest)

    def _extend(self, earliest: datetime.date | None, latest: datetime.date | None) -> None:
        if earliest is not None and latest is not None:
            self.earliest = earliest if self.earliest is None else min(self.earliest, earliest)
            self.latest = latest if self.latest is None else max(self.latest, latest)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for the manifest, times as ISO 8601."""
        found: dict[str, Any] = {"rows": self.rows, "missing": self.missing}
        if self.earliest is not None and self.latest is not None:
            found |= {"earliest": self.earliest.isoformat(), "latest": self.latest.isoformat()}
        return found


@dataclass
class Observations:
    """Measurements of one pass: summaries of numbers, counts of categories, by feature and measure; facts by column."""

    summaries: dict[str, Summary] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    columns: dict[str, ColumnFacts] = field(default_factory=dict)

    def add(self, preprocessing: Preprocessing, batch: pa.RecordBatch) -> None:
        """Measure raw rows.

        Raises:
            DataError: A label is missing, or a column has the wrong type.
        """
        for column in preprocessing.columns:
            self.columns.setdefault(column, ColumnFacts()).add(batch.column(column))
        for transform in preprocessing.transforms:
            if transform.fitted:
                continue
            for measure, observed in transform.observe(batch.column(transform.column)).items():
                self._add(_key(transform, measure), observed)
        label = preprocessing.label
        if label is None or label.fitted:
            return
        for measure, observed in label.observe(batch.column(label.column)).items():
            self._add(_label_key(measure), observed)

    def _add(self, key: str, observed: np.ndarray | pa.Array) -> None:
        if isinstance(observed, pa.Array):
            self.counts.setdefault(key, Counter()).update(_count(observed))
        else:
            self.summaries.setdefault(key, Summary()).add(observed)

    def of(self, transform: Transform) -> dict[str, Summary | Counter[str]]:
        """Return the measurements of one feature, by measure."""
        everything: dict[str, Summary | Counter[str]] = {**self.summaries, **self.counts}
        found = {}
        for key, measurement in everything.items():
            name, _, measure = key.partition(":")
            if name == transform.name:
                found[measure] = measurement
        return found

    def learn_label(self, label: ClassLabel | NumberLabel) -> ClassLabel | NumberLabel:
        """Return the label with the results of the pass.

        Raises:
            DataError: The training split cannot be learned from.
        """
        if isinstance(label, ClassLabel):
            return label.learn(self.counts.get(LABEL_KEY, Counter()))
        found = ((measure, self.summaries.get(_label_key(measure))) for measure in label.measures)
        return label.learn({measure: summary for measure, summary in found if summary is not None})

    def merge(self, other: Observations) -> None:
        """Add the measurements of other rows; the order does not matter."""
        for key, summary in other.summaries.items():
            self.summaries.setdefault(key, Summary()).merge(summary)
        for key, counts in other.counts.items():
            self.counts.setdefault(key, Counter()).update(counts)
        for column, facts in other.columns.items():
            self.columns.setdefault(column, ColumnFacts()).merge(facts)


def merge(parts: Iterable[Observations]) -> Observations:
    """Combine the observations of a pass."""
    merged = Observations()
    for part in parts:
        merged.merge(part)
    return merged


def learn(preprocessing: Preprocessing, observations: Observations) -> Preprocessing:
    """Return the preprocessing with the results of one pass.

    Raises:
        DataError: The training split cannot be learned from (no values, one class).
    """
    transforms = tuple(
        transform if transform.fitted else transform.learn(observations.of(transform))
        for transform in preprocessing.transforms
    )
    label = preprocessing.label
    if label is not None and not label.fitted:
        label = observations.learn_label(label)
    return replace(preprocessing, transforms=transforms, label=label)


def statistics(preprocessing: Preprocessing, observations: Observations) -> dict[str, dict[str, Any]]:
    """Return the statistics of the raw columns for the manifest.

    Returns:
        Column, or `COLUMN.MEASURE`, to a summary or to the number of distinct values and the most frequent ones. Only
        the values of categories are listed; pieces of texts are not. Of times, the first and the last one.
    """
    found: dict[str, dict[str, Any]] = {}
    for transform in preprocessing.transforms:
        for measure, measurement in observations.of(transform).items():
            if measure == ROUNDED:
                continue
            if isinstance(measurement, Summary):
                key = f"{transform.column}.{measure}" if measure else transform.column
                found.setdefault(key, measurement.to_dict())
            elif measure == VALUES:
                missing = observations.columns.get(transform.column, ColumnFacts()).missing
                found.setdefault(transform.column, {**_frequent(measurement), "missing": missing})
    if preprocessing.label is not None and LABEL_KEY in observations.counts:
        found.setdefault(preprocessing.label.column, _frequent(observations.counts[LABEL_KEY], _MAX_CLASSES))
    if preprocessing.label is not None and LABEL_KEY in observations.summaries:
        found.setdefault(preprocessing.label.column, observations.summaries[LABEL_KEY].to_dict())
    for column, facts in observations.columns.items():
        if column not in found and (facts.earliest is not None or not _has_measures(found, column)):
            found[column] = facts.to_dict()
    return found


def find_losses(preprocessing: Preprocessing, observations: Observations) -> list[str]:
    """Describe the features and the label that lose distinct values because shards hold float32.

    Args:
        preprocessing: The preprocessing, fitted.
        observations: The observations of the first pass, which are those of the raw values.
    """
    found: list[str | None] = []
    for transform in preprocessing.transforms:
        summary = observations.summaries.get(transform.name)
        if isinstance(transform, NumericTransform) and summary is not None:
            rounded = observations.summaries.get(_key(transform, ROUNDED))
            found += [transform.find_loss(summary), _describe_rounded(transform.origin, rounded)]
    label, summary = preprocessing.label, observations.summaries.get(LABEL_KEY)
    if isinstance(label, NumberLabel) and summary is not None:
        rounded = observations.summaries.get(_label_key(ROUNDED))
        found += [label.find_loss(summary), _describe_rounded(f"label: column {label.column}", rounded)]
    return [text for text in found if text is not None]


def _describe_rounded(origin: str, rounded: Summary | None) -> str | None:
    if rounded is None:
        return None
    return (
        f"{origin}: {round(rounded.mean * rounded.rows):,} integers of the training rows are beyond 2^53 and were"
        " rounded to the nearest float64; subtract a constant in the query, or use `kind: categorical` for codes"
    )


def _has_measures(found: dict[str, dict[str, Any]], column: str) -> bool:
    return any(name.startswith(f"{column}.") for name in found)


def _frequent(counts: Counter[str], limit: int = _MOST_FREQUENT) -> dict[str, Any]:
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return {"rows": sum(counts.values()), "distinct": len(counts), "most_frequent": [list(pair) for pair in top]}


def _label_key(measure: str) -> str:
    return f"{LABEL_KEY}:{measure}" if measure else LABEL_KEY


def _key(transform: Transform, measure: str) -> str:
    return f"{transform.name}:{measure}" if measure else transform.name


def _count(values: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(values.drop_null())
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
