"""Plots of a finished training."""

from __future__ import annotations

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from farandole.shards import LabelColumn
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.evaluation.metrics import predictions
from farandole.training.evaluation.ranking import confusion_matrix, roc_curve

matplotlib.use("Agg")

_MAX_POINTS = 5000
_MAX_CLASSES = 40
_MAX_LABEL = 24
_MAX_LEVEL_LABELS = 30
"""Characters of all class names together that fit side by side."""


def plot_training_curves(history: dict[str, list[tuple[int, float]]], main_metric: str) -> Figure:
    """Plot the training loss and the main validation metric by step."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name in ((left, "train.loss"), (right, f"validation.{main_metric}")):
        # The weights of the best epoch are validated once more at the last step: that is not a point of the curve.
        points = list({step: (step, value) for step, value in reversed(history.get(name, []))}.values())[::-1]
        axes.plot([step for step, _ in points], [value for _, value in points], marker="o", markersize=3)
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
    return figure


def plot_evaluation(result: EvaluationResult, label: LabelColumn) -> dict[str, Figure]:
    """Plot what suits the label: confusion matrix and ROC, or predicted against true values."""
    scores = predictions(result.outputs, label)
    if label.kind == "regression":
        return {"predicted_against_true": _plot_predictions(scores, result.label)}
    plots = {}
    predicted = (scores > 0.5).int() if label.kind == "binary" else scores.argmax(1)
    if len(label.classes) <= _MAX_CLASSES:
        plots["confusion_matrix"] = _plot_confusion(predicted, result.label, label.classes)
    if label.kind == "binary" and len(torch.unique(result.label)) == 2:
        plots["roc"] = _plot_roc(scores, result.label)
    return plots


def _plot_confusion(predicted: torch.Tensor, true: torch.Tensor, classes: tuple[str, ...]) -> Figure:
    counts = confusion_matrix(predicted, true, len(classes)).numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…" for name in classes]
    size = max(4.0, 0.55 * len(classes) + 0.09 * max(map(len, names)) + 1)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    ticks = range(len(classes))
    axes.set(xticks=ticks, yticks=ticks, yticklabels=names)
    # Upright names do not run into each other, whatever their length.
    axes.set_xticklabels(names, rotation=90 if len("".join(names)) > _MAX_LEVEL_LABELS else 0)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test split")
    for row, column in zip(*np.nonzero(counts), strict=True):  # empty cells stay empty: the filled ones stand out
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = _short_count(int(counts[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return figure


def _short_count(count: int) -> str:
    """Write a count in at most 5 characters, which fit into a cell."""
    for limit, unit in ((10_000_000, "M"), (10_000, "k")):
        if count >= limit:
            return f"{count / (1_000_000 if unit == 'M' else 1000):,.0f}{unit}"
    return f"{count:,}"


def _plot_roc(scores: torch.Tensor, true: torch.Tensor) -> Figure:
    false_positive, true_positive = roc_curve(scores, true)
    thinned = np.unique(np.linspace(0, len(false_positive) - 1, 500).astype(int))
    area = float(torch.trapezoid(true_positive, false_positive))
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(false_positive.numpy()[thinned], true_positive.numpy()[thinned], label=f"area {area:.4f}")
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, test split")
    axes.legend(loc="lower right")
    return figure


def _plot_predictions(predicted: torch.Tensor, true: torch.Tensor) -> Figure:
    step = max(1, len(true) // _MAX_POINTS)
    figure = Figure(figsize=(4.8, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(true.numpy()[::step], predicted.numpy()[::step], s=6, alpha=0.4)
    low, high = float(true.min()), float(true.max())
    axes.plot([low, high], [low, high], linestyle="--", color="grey", linewidth=1)
    axes.set(xlabel="true", ylabel="predicted", title="Predicted against true, test split")
    return figure
