"""Process of the baseline of tables: scikit-learn's HistGradientBoosting with its defaults, on the dataset's shards.

`python -m farandole.training.evaluation.boosting` reads one JSON document from its standard input: `directory` and
`key` of the dataset, the `output` file, and the file in which the result is `kept` for other jobs, or null. It runs
beside the training at a low priority, writes the predictions of the test rows, and ends with its parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np

from farandole.process.atomic import atomic_file, write_atomic
from farandole.process.parent_death import signal_on_parent_death
from farandole.shards import LABEL, Dataset, LabelColumn, Schema
from farandole.spec.privacy import KeyReference
from farandole.storage import parse_location

MAX_ROWS = 100_000
"""Training rows. Rows are stored in random order, so the first ones are a sample."""
MAX_VALUES = 10_000_000
"""Values of all training rows: 80 MB, as scikit-learn computes with float64. Of wide tables, fewer rows are used."""
MAX_CLASSES = 50
"""Each class is a model of its own: with more of them, the baseline would take longer than the training."""
_MAX_CATEGORIES = 255
"""Ids that scikit-learn accepts as categories; a feature with more of them counts as a number."""
_NICENESS = 10
"""Low enough to leave the cores to the training, and not so low that other programs of the machine could starve it."""
_MIN_PROBABILITY = 1e-7
_MAX_KEPT = 100


def is_suitable(schema: Schema) -> bool:
    """Return whether a dataset is a table with a label that the baseline can learn."""
    label = schema.label
    is_table = all(group.kind in ("numbers", "ids") for group in schema.groups)
    return is_table and label is not None and len(label.classes) <= MAX_CLASSES


def main() -> None:
    """Fit the baseline, and write its outputs for the test rows."""
    signal_on_parent_death(signal.SIGKILL)
    os.nice(_NICENESS)
    _be_first_victim_of_the_kernel()
    request = json.load(sys.stdin)
    key = KeyReference.model_validate(request["key"]) if request["key"] else None
    outputs, rows = fit_and_predict(Dataset(parse_location(request["directory"]), key))
    output = Path(request["output"])
    with atomic_file(output) as draft, draft.open("wb") as file:
        np.savez(file, outputs=outputs, rows=rows)
    if request["kept"]:
        _keep(output, Path(request["kept"]))


def _keep(output: Path, kept: Path) -> None:
    """Copy the result to where other jobs find it, and remove the oldest ones; a full disk is not a reason to fail."""
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, output.read_bytes())
        by_age = sorted(kept.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in by_age[_MAX_KEPT:]:
            old.unlink(missing_ok=True)


def fit_and_predict(dataset: Dataset) -> tuple[np.ndarray, int]:
    """Fit the baseline on training rows.

    Returns:
        The outputs for the test rows in stored order, float64 `[rows, num_outputs]`: logits of the positive class,
        logarithms of the probabilities of all classes, or numbers in the label's own units. And the number of training
        rows.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    schema = dataset.manifest.columns
    label = schema.target
    features, labels = _training_rows(dataset)
    categorical = _categorical_columns(schema)
    if label.kind == "regression":
        model = HistGradientBoostingRegressor(categorical_features=categorical, random_state=0)
        model.fit(features, label.in_units(labels))
    else:
        model = HistGradientBoostingClassifier(
            categorical_features=categorical, random_state=0, early_stopping=_early_stopping(labels)
        )
        model.fit(features, labels)
    parts = [_outputs(model, _matrix(schema, block), label) for block in _blocks(dataset, "test")]
    return np.concatenate(parts), len(labels)


def _early_stopping(labels: np.ndarray) -> str | bool:
    """Return scikit-learn's default, unless its stratified split would reject a class with a single row."""
    counts = np.bincount(labels)
    return "auto" if counts[counts > 0].min() > 1 else False


def _outputs(model: Any, features: np.ndarray, label: LabelColumn) -> np.ndarray:
    if label.kind == "regression":
        return cast(np.ndarray, model.predict(features)[:, None])
    probabilities = np.zeros((len(features), len(label.classes)))
    probabilities[:, model.classes_] = model.predict_proba(features)  # a sample may lack a class
    logs = np.log(np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))
    return logs[:, 1:] - logs[:, :1] if label.kind == "binary" else logs


def _training_rows(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return features `[rows, columns]` and labels `[rows]` of the first training rows."""
    schema = dataset.manifest.columns
    columns = sum(group.size for group in schema.groups)
    wanted = min(MAX_ROWS, max(1, MAX_VALUES // columns))
    features, labels, rows = [], [], 0
    for block in _blocks(dataset, "train"):
        features.append(_matrix(schema, block)[: wanted - rows])
        labels.append(np.array(block[LABEL][: wanted - rows]))
        rows += len(labels[-1])
        if rows == wanted:
            break
    return np.concatenate(features), np.concatenate(labels)


def _blocks(dataset: Dataset, split: str) -> Any:
    reader = dataset.split(split)
    for number in range(len(reader.block_rows)):
        yield reader.block(number)
        reader.release(number)


def _matrix(schema: Schema, block: dict[str, np.ndarray]) -> np.ndarray:
    """Return all features of a block side by side, float32 `[rows, columns]`."""
    return np.concatenate([block[group.name].astype(np.float32) for group in schema.groups], axis=1)


def _categorical_columns(schema: Schema) -> list[bool]:
    found: list[bool] = []
    for group in schema.groups:
        found += [size <= _MAX_CATEGORIES for size in group.cardinalities] or [False] * group.size
    return found


def _be_first_victim_of_the_kernel() -> None:
    """Make the kernel end this process, and not the training, where memory runs out."""
    with suppress(OSError):  # not Linux, or not permitted
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
