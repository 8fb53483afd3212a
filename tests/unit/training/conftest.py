"""Fixtures of the tests of training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trainer_harness import Harness, open_harness

_USER_FUNCTIONS = """
def half(outputs, label):
    return (outputs[:, 0] - label).abs() / 2

def summed(outputs, label):
    return half(outputs, label).sum()

def numbers(outputs, label):
    return half(outputs, label).tolist()

def detached(outputs, label):
    return half(outputs, label).detach()

def failing(outputs, label):
    return outputs[:, 7]

def furthest(outputs, label):
    return (outputs[:, 0] - label).abs().max()

def text(outputs, label):
    return "good"
"""


@pytest.fixture
def user_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a folder with a user's module `user_functions` of losses and metrics."""
    (tmp_path / "user_functions.py").write_text(_USER_FUNCTIONS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "user_functions", raising=False)
    return str(tmp_path)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Return a harness with an empty directory of checkpoints."""
    with open_harness(tmp_path) as harness:
        yield harness
