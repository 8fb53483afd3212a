"""Learning from the training split, in passes: each pass reads all rows once, in any order and in any pieces.

while not preprocessing.fitted:
    observations = [observe(preprocessing, batch) for batch in batches]      # on many machines
    preprocessing = learn(preprocessing, merge(observations))                # on one
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.categorical import VocabularyTransform
from farandole.preprocess.label import ClassLabel
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.preprocessing import Preprocessing, Transform
from farandole.preprocess.summary import Summary

LABEL_KEY = "label:"
"""The key of the label's observation; a feature's key is its name, which has no colon."""


@dataclass
class Observations:
    """What was seen in one pass: summaries of numbers, counts of categories, by feature."""

    summaries: dict[str, Summary] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, preprocessing: Preprocessing, batch: pa.RecordBatch) -> None:
        """Take in raw rows.

        Raises:
            DataError: A label is missing, or a column has the wrong type.
        """
        learners = [(transform.name, transform) for transform in preprocessing.transforms]
        for key, learner in [*learners, (LABEL_KEY, preprocessing.label)]:
            if learner is None or learner.fitted:
                continue
            seen = learner.observe(batch.column(learner.column))  # type: ignore[union-attr]
            if isinstance(seen, pa.Array):
                self.counts.setdefault(key, Counter()).update(_count(seen))
            else:
                self.summaries.setdefault(key, Summary()).add(seen)

    def merge(self, other: Observations) -> None:
        """Take in what others saw; the order does not matter."""
        for key, summary in other.summaries.items():
            self.summaries.setdefault(key, Summary()).merge(summary)
        for key, counts in other.counts.items():
            self.counts.setdefault(key, Counter()).update(counts)


def merge(parts: Iterable[Observations]) -> Observations:
    """All observations of a pass together."""
    merged = Observations()
    for part in parts:
        merged.merge(part)
    return merged


def learn(preprocessing: Preprocessing, seen: Observations) -> Preprocessing:
    """The preprocessing with what one pass told.

    Raises:
        DataError: The training split cannot be learned from (no values, one class).
    """
    transforms: list[Transform] = []
    for transform in preprocessing.transforms:
        if not transform.fitted and isinstance(transform, NumericTransform):
            transform = transform.learn(seen.summaries.get(transform.name, Summary()))
        elif not transform.fitted and isinstance(transform, VocabularyTransform):
            transform = transform.learn(seen.counts.get(transform.name, Counter()))
        transforms.append(transform)
    label = preprocessing.label
    if isinstance(label, ClassLabel) and not label.fitted:
        label = label.learn(seen.counts.get(LABEL_KEY, Counter()))
    return replace(preprocessing, transforms=tuple(transforms), label=label)


def _count(values: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(values.drop_null())
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
