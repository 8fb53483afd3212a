"""Fixtures of tests that record runs in a real store."""

from __future__ import annotations

import pytest

from farandole.tracking import recorder


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not take a store for unavailable because the machine is busy."""
    monkeypatch.setattr(recorder, "_FIRST_ANSWER_TIMEOUT_S", 120.0)
