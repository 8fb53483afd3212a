from __future__ import annotations

import itertools

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from farandole.shards import LabelColumn
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.evaluation.plots import plot_evaluation, plot_training_curves

BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_curves_show_the_logged_values() -> None:
    history = {"train.loss": [(10, 0.7), (20, 0.5)], "validation.roc_auc": [(20, 0.8)]}
    left, right = plot_training_curves(history, "roc_auc").axes
    assert np.asarray(left.lines[0].get_xydata()).tolist() == [[10, 0.7], [20, 0.5]]
    assert np.asarray(right.lines[0].get_xydata()).tolist() == [[20, 0.8]]


def test_binary_label_is_plotted_as_confusion_matrix_and_roc() -> None:
    outputs = torch.tensor([[2.0], [1.0], [-1.0], [3.0]])
    plots = plot_evaluation(EvaluationResult(outputs, torch.tensor([1, 0, 0, 1]), {}), BINARY)
    assert set(plots) == {"confusion_matrix", "roc"}
    assert _texts(plots["confusion_matrix"]) == ["1", "1", "2"]
    legend = plots["roc"].axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "area 1.0000"


def test_split_of_one_class_has_no_roc() -> None:
    plots = plot_evaluation(EvaluationResult(torch.zeros(3, 1), torch.tensor([1, 1, 1]), {}), BINARY)
    assert set(plots) == {"confusion_matrix"}


def test_confusion_matrix_is_left_out_for_many_classes() -> None:
    few = LabelColumn(kind="multiclass", column="y", classes=("a", "b", "c"))
    result = EvaluationResult(torch.eye(3), torch.tensor([0, 1, 1]), {})
    assert _texts(plot_evaluation(result, few)["confusion_matrix"]) == ["1", "1", "1"]
    many = LabelColumn(kind="multiclass", column="y", classes=tuple(map(str, range(100))))
    assert plot_evaluation(EvaluationResult(torch.eye(100), torch.arange(100), {}), many) == {}


def test_confusion_matrix_of_twenty_classes_is_readable() -> None:
    classes = tuple(f"a rather long class name {number}" for number in range(20))
    label = LabelColumn(kind="multiclass", column="y", classes=classes)
    true = torch.arange(20).repeat_interleave(15_000)
    figure = plot_evaluation(EvaluationResult(torch.eye(20)[true], true, {}), label)["confusion_matrix"]
    axes = figure.axes[0]
    assert _texts(figure) == ["15k"] * 20
    FigureCanvasAgg(figure).draw()
    for names in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text() for text in names] == [name[:23] + "…" for name in classes]
        boxes = [text.get_window_extent() for text in names]
        assert not any(first.overlaps(second) for first, second in itertools.pairwise(boxes))
    width = axes.get_window_extent().width / 20
    assert all(text.get_window_extent().width < width for text in axes.texts)


def test_predicted_numbers_are_plotted_against_true_ones() -> None:
    label = LabelColumn(kind="regression", column="y")
    plots = plot_evaluation(EvaluationResult(torch.tensor([[1.0], [2.0]]), torch.tensor([1.5, 2.5]), {}), label)
    assert set(plots) == {"predicted_against_true"}
    points = plots["predicted_against_true"].axes[0].collections[0].get_offsets()
    assert np.asarray(points).tolist() == [[1.5, 1.0], [2.5, 2.0]]
