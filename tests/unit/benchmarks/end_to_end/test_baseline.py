"""Parts that the baselines share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.end_to_end.baseline import read_arguments, score
from benchmarks.end_to_end.handwritten import Network, plain, validate


def test_arguments_are_those_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ddp", "small", "/tmp/raw", "sqlite:///x.db"])
    assert read_arguments() == ("small", Path("/tmp/raw"), "sqlite:///x.db")


def test_scores_are_those_of_the_probabilities() -> None:
    scores = score(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9]))
    assert scores["roc_auc"] == 1.0
    assert scores["accuracy"] == 0.75
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.9]).mean())


class _Wrapped(nn.Module):
    """Wrapper of a network, like torch's DistributedDataParallel."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_epoch_logs_its_loss_and_the_metrics_of_the_network_without_its_wrapper() -> None:
    network = Network(3, [4, 5])
    assert plain(_Wrapped(network)) is network
    assert plain(network) is network
    rows = 20
    tensors = {
        "numbers": torch.randn(rows, 3),
        "codes": torch.randint(0, 4, (rows, 2)),
        "label": torch.arange(rows) % 2,
        "validation": torch.arange(rows),
    }
    values = validate(_Wrapped(network), tensors, 0.25)
    assert values["loss"] == 0.25
    assert set(values) == {"loss", "roc_auc", "accuracy", "log_loss"}
