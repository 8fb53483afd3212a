"""Counts what a job opens before its first worker starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from farandole.storage import LocalStorage


class FirstWorkerError(Exception):
    """Stands in for the first worker's start."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the openings of sources and the reads of manifests, until `FirstWorkerError` stands in for a worker."""
    from farandole.ingest import cache_key, prepare
    from farandole.ingest.sources import files

    counts: Counter[str] = Counter()

    def count(module: Any, name: str, label: Callable[..., str]) -> None:
        original = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counts[label(*arguments)] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    for module in (files, prepare):
        count(module, "find_files", lambda name, *_: f"source {name}")
    for each in (cache_key, prepare):
        count(each, "compute_cache_key", lambda *_: "cache key")
    count(LocalStorage, "read", lambda _, name: name)

    def start(*_: Any, **__: Any) -> None:
        raise FirstWorkerError

    monkeypatch.setattr("farandole.launch.supervisor.run_gang", start)
    return counts
