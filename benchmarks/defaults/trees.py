"""The peer: scikit-learn's HistGradientBoosting with its defaults, on the rows of a prepared dataset."""

from __future__ import annotations

import numpy as np

from farandole.shards import LABEL, Dataset, Schema

_MAX_CATEGORIES = 255
"""Ids that scikit-learn accepts as categories; a feature with more of them counts as a number."""
METRICS = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "r2"}
"""The score of each kind of label."""


def score_trees(directory: str) -> float:
    """Fit the trees, and return their score on the test rows.

    They learn from the training and the validation rows: the network needs validation rows to choose its best epoch,
    and trees do not. They see the columns as they are in the shards; trees do not care about the scale of a number.

    Args:
        directory: The dataset directory.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

    dataset = Dataset(directory)
    label = dataset.manifest.columns.target
    categorical = _categorical(dataset.manifest.columns)
    features, labels = _rows(dataset, "train", "validation")
    test_features, test_labels = _rows(dataset, "test")
    if label.kind == "regression":
        regressor = HistGradientBoostingRegressor(categorical_features=categorical, random_state=0)
        regressor.fit(features, label.in_units(labels))
        return float(r2_score(label.in_units(test_labels), regressor.predict(test_features)))
    classifier = HistGradientBoostingClassifier(categorical_features=categorical, random_state=0)
    classifier.fit(features, labels)
    if label.kind == "multiclass":
        return float(accuracy_score(test_labels, classifier.predict(test_features)))
    return float(roc_auc_score(test_labels, classifier.predict_proba(test_features)[:, 1]))


def _rows(dataset: Dataset, *splits: str) -> tuple[np.ndarray, np.ndarray]:
    blocks = [
        reader.block(number)
        for reader in (dataset.split(split) for split in splits if dataset.manifest.rows(split))
        for number in range(len(reader.block_rows))
    ]
    groups = [group.name for group in dataset.manifest.columns.groups]
    parts = [
        np.concatenate([block[name].reshape(len(block[LABEL]), -1).astype(np.float64) for name in groups], axis=1)
        for block in blocks
    ]
    return np.concatenate(parts), np.concatenate([block[LABEL] for block in blocks])


def _categorical(schema: Schema) -> list[int]:
    columns: list[int] = []
    first = 0
    for group in schema.groups:
        columns += [first + index for index, count in enumerate(group.cardinalities) if count <= _MAX_CATEGORIES]
        first += group.size
    return columns
