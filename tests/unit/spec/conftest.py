"""A small job that breaks no rule; tests change one thing about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.errors import SpecError
from farandole.spec import parse_job


@pytest.fixture
def raw() -> dict[str, Any]:
    """What a job file holds, as plain data."""
    return {
        "name": "small",
        "data": {
            "sources": {"trips": {"path": "trips.csv"}},
            "features": {
                "distance": {"kind": "numeric"},
                "carrier": {"kind": "categorical"},
                "tail": {"kind": "categorical", "encoding": "hash", "buckets": 64},
                "start": {"kind": "time", "parts": ["hour", "weekday"]},
            },
            "label": {"column": "late", "kind": "binary"},
        },
        "model": {"builder": "network:build", "options": {"hidden": [32, 16]}},
    }


@pytest.fixture
def write(tmp_path: Path, raw: dict[str, Any]) -> Callable[..., Path]:
    """Writes a job file: the text, or the small job."""

    def write(text: str | None = None) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False) if text is None else text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems() -> Callable[[dict[str, Any]], list[str]]:
    """What is wrong with a job, line by line; nothing wrong fails the test."""

    def problems(raw: dict[str, Any]) -> list[str]:
        with pytest.raises(SpecError) as caught:
            parse_job(raw)
        return str(caught.value).splitlines()

    return problems
