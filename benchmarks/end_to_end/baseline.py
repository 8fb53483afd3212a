"""Parts that all baselines share: their arguments, and the scores of their predictions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def read_arguments() -> tuple[str, Path, str]:
    """Return the arguments of a baseline's script: the case, the folder of its raw files, and the MLflow store."""
    case, folder, store = sys.argv[1:]
    return case, Path(folder), store


def score(label: Any, probability: Any) -> dict[str, float]:
    """Return the metrics of predicted probabilities of the class 1."""
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    return {
        "roc_auc": float(roc_auc_score(label, probability)),
        "accuracy": float(accuracy_score(label, probability > 0.5)),
        "log_loss": float(log_loss(label, probability)),
    }
