"""Report that helps to judge the metrics of a model: baselines, intervals, figures by class, notes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from farandole.bundle.bootstrap import intervals
from farandole.shards import LABEL, Dataset
from farandole.spec import Job, is_function_reference
from farandole.training.evaluation.baselines import (
    BOOSTING,
    BoostingProcess,
    sample_labels,
    trivial_name,
    trivial_outputs,
)
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.evaluation.judgement import (
    MIN_ROWS,
    Evidence,
    explain_failure,
    find_label_problem,
    find_overfitting,
    gate_metric,
)
from farandole.training.evaluation.metrics import FALLBACK_METRIC, class_figures, compute_metrics
from farandole.training.evaluation.rare_classes import explain_missing_metrics, is_undefined
from farandole.training.losses import constant_loss
from farandole.training.result import TrainingResult

TEACHER = "teacher"
"""The name, among the baselines, of the model that a network has learned from."""
_RECENT = 0.2
_MAX_CLASSES = 100
"""Of more classes, no figures are reported one by one."""
_MAX_HASHED_BYTES = 256 * 2**20
"""Features that enter the digest of the test rows: about a second of one core."""


@dataclass
class Report:
    """The report on a model.

    Args:
        baselines: Name of a baseline, or `teacher`, to its metrics on the test split.
        intervals: Split to metric to the ends of its 95% interval.
        classes: Class to precision, recall, F1 and rows, on the test split.
        test_rows_digest: Identifies the test rows: results with different digests cannot be compared.
        notes: Sentences about what to keep in mind.
    """

    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    test_rows_digest: str | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the `evaluation` part of the result document."""
        return asdict(self)


class Reporter:
    """Makes the report on a model, on rank zero.

    Args:
        job: The job.
        dataset: The dataset.
        test: The evaluation of the test split; None if it is empty.
        boosting: The boosting baseline; None if there is none.
        teacher: The evaluation of the teacher on the test split; None if there is none.
    """

    def __init__(
        self,
        job: Job,
        dataset: Dataset,
        test: EvaluationResult | None,
        boosting: BoostingProcess | None,
        teacher: EvaluationResult | None = None,
    ) -> None:
        self.job, self._dataset, self._test, self._boosting = job, dataset, test, boosting
        self._label = dataset.manifest.columns.target
        self.report = Report()
        if teacher is not None:
            self.report.baselines[TEACHER] = teacher.metrics

    def describe(self, result: TrainingResult) -> None:
        """Fill the report with what is known without waiting."""
        note = find_overfitting(result.epochs, result.best_epoch, keeps_best=result.weights_step < result.steps)
        missing = [explain_missing_metrics(self.job, self._dataset, split) for split in ("validation", "test")]
        self.report.notes += [text for text in (note, *missing) if text]
        test = self._test
        if test is None:
            return
        outputs, label = test.outputs.numpy(), test.label.numpy()
        self.report.test_rows_digest = rows_digest(self._dataset, "test")
        self.report.intervals["test"] = intervals(self.job.metrics, outputs, label, self._label)
        if self._label.kind != "regression" and len(self._label.classes) <= _MAX_CLASSES:
            figures = class_figures(test.outputs, test.label, self._label)
            self.report.classes = {
                name: {key: value for key, value in figure.items() if key != "predicted"}
                for name, figure in figures.items()
            }
        if self.job.train.baseline != "off" and self._dataset.manifest.rows("train"):
            trivial = trivial_outputs(self._dataset, len(test.label))
            self.report.baselines[trivial_name(self._label)] = self._measure(trivial)

    def add_boosting(self, timeout_s: float) -> None:
        """Add the boosting baseline if it has ended or ends in time, otherwise a note about it."""
        if self._boosting is None or self._test is None or BOOSTING in self.report.baselines:
            return
        outputs = self._boosting.outputs(timeout_s)
        if self._boosting.problem is not None:
            self.report.notes.append(f"the comparison with boosting is missing: {self._boosting.problem}")
        if outputs is not None and len(outputs) == len(self._test.label):
            self.report.baselines[BOOSTING] = self._measure(outputs)

    def find_failure(self, steps: int, train_losses: list[tuple[int, float]]) -> str | None:
        """Explain why the model should not be registered; returns None if it beats the trivial baseline.

        Args:
            steps: Optimizer steps.
            train_losses: Steps and training losses.
        """
        if self._test is None or len(self._test.label) < MIN_ROWS:
            return None
        metric, name = self._gate_metric(), trivial_name(self._label)
        model = compute_metrics((metric,), self._test.outputs, self._test.label, self._label)
        problem = None
        if self._label.kind == "regression" and self._dataset.manifest.rows("train"):
            problem = find_label_problem(self._label.in_units(sample_labels(self._dataset)))
        evidence = Evidence(steps, recent_loss(train_losses), self._trivial_loss(), problem)
        return explain_failure(metric, name, model, self.report.baselines, evidence)

    def _measure(self, outputs: torch.Tensor) -> dict[str, float]:
        """Compute the built-in metrics, and the one that decides about the registration."""
        assert self._test is not None
        names = [name for name in self.job.metrics if not is_function_reference(name)]
        wanted = tuple(dict.fromkeys([*names, self._gate_metric()]))
        return compute_metrics(wanted, outputs, self._test.label, self._label)

    def _gate_metric(self) -> str:
        """Return the metric that decides about the registration: one that the test rows define."""
        metric = gate_metric(self.job)
        # A network that weights its classes has a higher log loss on purpose.
        if self.job.train.class_weights is None and is_undefined(metric, self._dataset, "test"):
            return FALLBACK_METRIC
        return metric

    def _trivial_loss(self) -> float | None:
        statistics = self._dataset.manifest.statistics.get(self._label.column, {})
        outputs = trivial_outputs(self._dataset, 1)
        return constant_loss(self.job, self._label, outputs[0].numpy(), statistics)


def recent_loss(train_losses: list[tuple[int, float]]) -> float | None:
    """Return the mean loss of the last fifth of the steps; None if no loss was logged.

    Args:
        train_losses: Steps, and the mean losses of the steps since the previous pair.
    """
    if not train_losses:
        return None
    last, total, weight = train_losses[-1][0], 0.0, 0
    starts = [0, *(step for step, _ in train_losses[:-1])]
    for start, (step, loss) in zip(reversed(starts), reversed(train_losses), strict=True):
        total, weight = total + loss * (step - start), weight + step - start
        if weight >= _RECENT * last:
            break
    return total / max(1, weight)


def rows_digest(dataset: Dataset, split: str) -> str:
    """Return a digest of the rows of a split, from their labels and features in stored order.

    The order of rows follows from a hash of their content. Of numbers only the ranks count, and of ids only which rows
    share one: scales and vocabularies depend on the training rows. (So do the values in place of missing ones, whose
    ranks may change.) Features count until `_MAX_HASHED_BYTES`.
    """
    schema, reader, hashed = dataset.manifest.columns, dataset.split(split), 0
    label = schema.target
    columns = [(group.name, group.kind, list(group.features)) for group in schema.groups]
    digest = hashlib.sha256(f"{label.column}\0{label.kind}\0{list(label.classes)}\0{columns}\0".encode())
    for number in range(len(reader.block_rows)):
        block = reader.block(number)
        digest.update(_ranks(block[LABEL]) if label.kind == "regression" else _bytes(block[LABEL].astype(np.int64)))
        for group in schema.groups if hashed < _MAX_HASHED_BYTES else ():
            values = block[group.name]
            hashed += values.nbytes
            if group.kind in ("numbers", "ids"):
                canonical = _ranks if group.kind == "numbers" else _first_rows
                for column in values.T:
                    digest.update(canonical(column))
            else:
                digest.update(_bytes(values))
        reader.release(number)
    return digest.hexdigest()[:12]


def _ranks(values: np.ndarray) -> bytes:
    """Return the ranks of numbers, equal ones with the same rank."""
    return _bytes(np.unique(values, return_inverse=True)[1].astype(np.int64))


def _first_rows(ids: np.ndarray) -> bytes:
    """Return, for each id, the first row with the same one."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return _bytes(first[inverse].astype(np.int64))


def _bytes(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values).tobytes()
