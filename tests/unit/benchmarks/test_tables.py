"""Output of results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import tables

MACHINE = {"cores": 2, "cpu": "Xeon", "load_1min": 0.5, "python": "3.11", "torch": "2", "pyarrow": "25", "pyspark": "4"}


def _result(system: str, rows_per_s: int, **changes: Any) -> dict[str, Any]:
    fixed = {"version": "1", "about": f"about {system}", "case": "table", "rows": 1000}
    return {"system": system, "rows_per_s": rows_per_s, **fixed, **changes}


DOCUMENT = {"machine": MACHINE, "results": [_result("memcpy", 4000), _result("farandole", 2000, resume_ms=1.25)]}


def test_json_is_the_document_itself(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(DOCUMENT, tables.LOADER, as_json=True, as_markdown=False)
    assert json.loads(capsys.readouterr().out) == DOCUMENT


def test_markdown_has_one_row_for_each_system(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(DOCUMENT, tables.LOADER, as_json=False, as_markdown=True)
    lines = capsys.readouterr().out.splitlines()
    assert "### table" in lines
    assert [line for line in lines if line.startswith("|")] == [
        "| system | version | rows | rows/s | of memcpy | times slower | resume ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| memcpy | 1 | 1,000 | 4,000 |  | 0.5 |  |",
        "| farandole | 1 | 1,000 | 2,000 | 0.5 |  | 1.2 |",
    ]
    assert "- memcpy: about memcpy" in lines


def test_terminal_shows_no_wide_columns(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(DOCUMENT, tables.LOADER, as_json=False, as_markdown=False)
    output = capsys.readouterr().out
    assert "of memcpy" in output
    assert "version" not in output
