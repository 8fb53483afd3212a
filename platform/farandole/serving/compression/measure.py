"""Size, latency and test metric of one form of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from farandole.bundle import Bundle, Predictor
from farandole.bundle.pruning import archive_bytes
from farandole.errors import DatasetError
from farandole.loading import EvaluationLoader
from farandole.shards import Dataset, LabelColumn
from farandole.spec import METRICS, metric_direction

Outputs = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Features `{group: [rows, ...]}` to outputs, float32 `[rows, outputs]`."""
_BATCH_ROWS = 1024
_TIMED_CALLS = 200
_WARM_UP_CALLS = 20


@dataclass(frozen=True)
class FormMeasure:
    """Cost and quality of one form of a model.

    Args:
        form: `eager`, `program` or `int8`.
        bytes: The size of its file. Zeros take as much room in it as other weights.
        row_ms: The median time for the outputs of one row, in ms, on one thread.
        rows_per_s: The rate for batches of up to 1,024 rows, on one thread.
        metric: The primary metric on the test split.
        archive_bytes: The size of the file after gzip, as in an archive.
    """

    form: str
    bytes: int
    row_ms: float
    rows_per_s: float
    metric: float
    archive_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def primary_metric(label: LabelColumn) -> str:
    """Return the metric by which forms of a model are compared."""
    return METRICS[label.kind][0]


def relative_drop(metric: str, before: float, after: float) -> float:
    """Return by which share of its value a metric became worse; negative if it became better."""
    worse = after - before if metric_direction(metric, None, "metric") == "min" else before - after
    return worse / abs(before) if before else worse


def measure_form(bundle: Bundle, form: str, batches: list[tuple[dict[str, np.ndarray], np.ndarray]]) -> FormMeasure:
    """Measure one form of a model on the rows of the test split.

    Args:
        bundle: The model.
        form: The form.
        batches: Features and labels of the test rows.
    """
    predictor, file = bundle.predictor(form), bundle.path / bundle.model["forms"][form]["file"]
    outputs: Outputs = predictor.outputs
    labels = np.concatenate([label for _, label in batches])
    with _one_thread():
        row_ms = _row_ms(outputs, batches[0][0])
        started_s = time.perf_counter()
        computed = [outputs(features) for features, _ in batches]
        rows_per_s = len(labels) / (time.perf_counter() - started_s)
    metric, size = _metric(np.concatenate(computed), labels, predictor), file.stat().st_size
    return FormMeasure(form, size, row_ms, rows_per_s, metric, archive_bytes(file))


def read_rows(
    dataset: Dataset, split: str, most_rows: int | None = None
) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Return features and labels of a split in batches, up to a number of rows.

    Raises:
        DatasetError: The split has no rows.
    """
    found = list(_limited(dataset, split, most_rows))
    if not found:
        raise DatasetError(
            f"{dataset.directory}: the split {split} has no rows; prepare the dataset with some in data.split"
        )
    return found


def _limited(dataset: Dataset, split: str, most_rows: int | None) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    rows = 0
    for batch in EvaluationLoader(dataset, split, batch_rows=_BATCH_ROWS):
        # The loader uses the memory of a batch again.
        yield {name: tensor.numpy().copy() for name, tensor in batch.features.items()}, batch.label.numpy().copy()
        rows += batch.rows
        if most_rows is not None and rows >= most_rows:
            return


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread, as the workers of a service do, and as ONNX Runtime does here."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _row_ms(outputs: Outputs, features: dict[str, np.ndarray]) -> float:
    """Return the median time for one row, in ms."""
    rows = len(next(iter(features.values())))
    times_s = []
    for call in range(_WARM_UP_CALLS + _TIMED_CALLS):
        row = {name: values[call % rows : call % rows + 1] for name, values in features.items()}
        started_s = time.perf_counter()
        outputs(row)
        times_s.append(time.perf_counter() - started_s)
    return 1000 * float(np.median(times_s[_WARM_UP_CALLS:]))


def _metric(outputs: np.ndarray, labels: np.ndarray, predictor: Predictor) -> float:
    """Return the primary metric of outputs `[rows, outputs]` for labels `[rows]`, by scikit-learn."""
    from sklearn import metrics

    label = predictor.label
    if label.kind == "binary":
        return float(metrics.roc_auc_score(labels, outputs[:, 0]))
    if label.kind == "multiclass":
        return float(metrics.accuracy_score(labels, outputs.argmax(1)))
    return float(metrics.root_mean_squared_error(label.in_units(labels), label.in_units(outputs[:, 0])))
