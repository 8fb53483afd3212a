"""Fixtures that declare a preprocessing and fit it on rows, as preparation does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from farandole.preprocess import Observations, Preprocessing, learn, merge
from farandole.spec import Data

Declare = Callable[..., Preprocessing]
Fit = Callable[[Preprocessing, Sequence[pa.RecordBatch]], Preprocessing]


@pytest.fixture(scope="session")
def declare() -> Declare:
    """Return a function that makes a preprocessing of features, column types and a label."""

    def declare(features: dict[str, Any], types: dict[str, str], label: dict[str, Any] | None = None) -> Preprocessing:
        data = {
            "sources": {"a": {"path": "/a.csv"}},
            "features": features,
            "label": label or {"column": "y", "kind": "binary"},
        }
        return replace(Preprocessing.from_spec(Data.model_validate(data)), types=types)

    return declare


@pytest.fixture(scope="session")
def fit() -> Fit:
    """Return a function that fits a preprocessing on batches, each observed separately."""

    def fit(preprocessing: Preprocessing, batches: Sequence[pa.RecordBatch]) -> Preprocessing:
        while not preprocessing.fitted:
            parts = []
            for batch in batches:
                parts.append(Observations())
                parts[-1].add(preprocessing, batch)
            preprocessing = learn(preprocessing, merge(parts))
        return preprocessing

    return fit
