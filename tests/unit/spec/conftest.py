"""A small valid job, of which each test changes one part."""

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
    """Return the content of a job file, as plain data."""
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
    """Return a function that writes a job file: the text, or the small job."""

    def write(text: str | None = None) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False) if text is None else text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems() -> Callable[[dict[str, Any]], list[str]]:
    """Return a function that lists the problems of an invalid job; a valid one fails the test."""

    def problems(raw: dict[str, Any]) -> list[str]:
        with pytest.raises(SpecError) as caught:
            parse_job(raw)
        return str(caught.value).splitlines()

    return problems
