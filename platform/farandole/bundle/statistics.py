"""Statistics of the training rows and of the predictions, with which a service compares the rows that it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from farandole.bundle.predictor import predictions
from farandole.shards import LabelColumn, Manifest

_BINS = 10
_ROUNDED = 6
"""Decimals of a share."""


def training_statistics(manifest: Manifest, outputs: np.ndarray | None, in_units: bool = True) -> dict[str, Any]:
    """Return the statistics of a bundle, `statistics.json`.

    Those of the raw columns are the manifest's, of the training split; those of predictions are of the test split.

    Args:
        manifest: The dataset.
        outputs: The network's outputs for the test split, `[rows, outputs]`; None: there is no test split.
        in_units: Whether the outputs of a regression are in the units of the label's column already.

    Returns:
        `columns`: raw column to `kind`, `missing_share`, and `shares` of all rows in the bins between `edges` or for
        each of `values`; `predictions`: the same of the columns of a prediction.
    """
    columns = {}
    for column in manifest.preprocessing.get("types", {}):
        described = _describe(manifest.statistics.get(column, {}), manifest.rows("train"))
        if described is not None:
            columns[column] = described
    found = {} if outputs is None else _predictions(outputs, manifest.columns.target, in_units)
    return {"split": "train", "rows": manifest.rows("train"), "columns": columns, "predictions": found}


def describe_numbers(numbers: np.ndarray) -> dict[str, Any]:
    """Return the shares of numbers between their deciles."""
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _BINS + 1)))
    if len(edges) < 2:
        edges = np.array([edges[0] - 0.5, edges[0] + 0.5])
    counts, _ = np.histogram(numbers, edges)
    return {"kind": "number", "edges": edges.tolist(), "shares": _shares(counts, len(numbers)), "missing_share": 0.0}


def _predictions(outputs: np.ndarray, label: LabelColumn, in_units: bool) -> dict[str, Any]:
    outputs = outputs[np.isfinite(outputs).all(axis=1)]  # a diverged network is a model, too
    if not len(outputs):
        return {}
    if label.kind == "regression":
        values = outputs[:, 0] if in_units else label.in_units(outputs[:, 0])
        return {"prediction": describe_numbers(values)}
    columns = predictions(outputs, label)
    names, counts = np.unique(columns["prediction"].astype(str), return_counts=True)
    found: dict[str, Any] = {"prediction": _categories(dict(zip(names.tolist(), counts.tolist(), strict=True)), 0)}
    if label.kind == "binary":
        found["probability"] = describe_numbers(columns["probability"])
    return found


def _describe(statistics: Mapping[str, Any], rows: int) -> dict[str, Any] | None:
    """Return a column's statistics of a manifest as shares; None if it has neither a histogram nor counts."""
    missing = int(statistics.get("missing") or 0)
    if "histogram" in statistics:
        histogram = statistics["histogram"]
        counts = np.array(histogram["counts"], dtype=np.int64)
        counts[0] += histogram["below"]
        counts[-1] += histogram["above"]
        rows = int(statistics["rows"]) or 1
        shares = {"edges": histogram["edges"], "shares": _shares(counts, rows), "missing_share": missing / rows}
        return {"kind": "number", **shares, **{key: statistics[key] for key in ("min", "max", "mean", "deviation")}}
    if "most_frequent" in statistics:
        present = int(statistics["rows"])  # of categories, rows with a value are counted
        return _categories(dict(statistics["most_frequent"]), missing, present + missing)
    return None


def _categories(counts: Mapping[str, int], missing: int, rows: int | None = None) -> dict[str, Any]:
    rows = rows if rows is not None else sum(counts.values())
    shares = _shares(np.array(list(counts.values())), rows)
    return {"kind": "category", "values": list(counts), "shares": shares, "missing_share": missing / max(rows, 1)}


def _shares(counts: np.ndarray, rows: int) -> list[float]:
    return [round(float(share), _ROUNDED) for share in counts / max(rows, 1)]
