"""Metrics of rankings, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from farandole.training.evaluation import ranking

SCORES = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60)


@given(SCORES)
def test_areas_equal_those_of_scikit_learn_also_with_ties(rows: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([score for score, _ in rows], dtype=torch.float64)
    label = torch.tensor([int(positive) for _, positive in rows])
    if len(label.unique()) < 2:
        return
    auc, precision = ranking.roc_auc(scores, label), ranking.average_precision(scores, label)
    assert float(auc) == pytest.approx(sk.roc_auc_score(label.numpy(), scores.numpy()), rel=1e-12)
    assert float(precision) == pytest.approx(sk.average_precision_score(label.numpy(), scores.numpy()), rel=1e-12)


def test_curve_equals_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    scores, label = random.normal(size=500).round(1), random.integers(0, 2, 500)
    false, true = ranking.roc_curve(torch.from_numpy(scores), torch.from_numpy(label))
    expected_false, expected_true, _ = sk.roc_curve(label, scores, drop_intermediate=False)
    assert false.numpy() == pytest.approx(expected_false)
    assert true.numpy() == pytest.approx(expected_true)


def test_confusion_matrix_has_a_row_for_each_true_class() -> None:
    random = np.random.default_rng(0)
    true, predicted = random.integers(0, 4, 200), random.integers(0, 3, 200)
    found = ranking.confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(true), 5)
    assert found.numpy().tolist() == sk.confusion_matrix(true, predicted, labels=range(5)).tolist()
