"""Classes with few rows or none in a split, for which a ranking of rows is coarse or undefined."""

from __future__ import annotations

import numpy as np

from farandole.shards import LABEL, Dataset
from farandole.spec import Job
from farandole.training.evaluation.metrics import RANKING_METRICS

_FEW_ROWS = 10
"""Rows of a class, of which fewer make a ranking metric coarse: it changes by one pair of rows after another."""


def count_rows(dataset: Dataset, split: str, enough: int) -> dict[str, int]:
    """Count the rows of each class in a split.

    Args:
        dataset: The dataset; its label has classes.
        split: The split.
        enough: Reading ends once each class has this many rows. Rows are in random order, so that it mostly ends soon.
    """
    classes, reader = dataset.manifest.columns.target.classes, dataset.split(split)
    counts = np.zeros(len(classes), dtype=np.int64)
    for number in range(len(reader.block_rows)):
        counts += np.bincount(reader.block(number)[LABEL], minlength=len(classes))
        reader.release(number)
        if counts.min() >= enough:
            break
    return dict(zip(classes, counts.tolist(), strict=True))


def is_undefined(metric: str, dataset: Dataset, split: str) -> bool:
    """Return whether a split with rows has a single class, so that a ranking metric has no value."""
    return metric in RANKING_METRICS and not all(count_rows(dataset, split, 1).values())


def is_coarse(metric: str, dataset: Dataset) -> bool:
    """Return whether the validation split has so few rows of a class that a ranking metric chooses by chance."""
    return metric in RANKING_METRICS and min(count_rows(dataset, "validation", _FEW_ROWS).values()) < _FEW_ROWS


def explain_missing_metrics(job: Job, dataset: Dataset, split: str) -> str | None:
    """Explain which metrics of a split are missing because it has a single class; returns None if none is."""
    names = [name for name in job.metrics if name in RANKING_METRICS]
    if not names or not dataset.manifest.rows(split):
        return None
    absent = [name for name, rows in count_rows(dataset, split, 1).items() if not rows]
    if not absent:
        return None
    measured = f"{' and '.join(names)} {'was' if len(names) == 1 else 'were'} not measured there"
    return f"the {split} split has no row of class {absent[0]}, so {measured}"
