"""Output of results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.defaults.bench import summarize

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


def _compared(table: str, score: float, trees: float) -> dict[str, Any]:
    fixed = {"system": "farandole", "about": "about it", "kind": "binary", "metric": "roc_auc", "rows": 1000}
    result = {"case": table, "score": score, "trees": trees, "difference": score - trees, "seconds": 30.0}
    return {**fixed, **result, "training_s": 9.5, "best_epoch": 3, "epochs": 20}


def test_comparison_with_trees_is_one_table_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    results = [_compared("good", 0.9, 0.8), _compared("bad", 0.75, 0.8)]
    document = {"machine": MACHINE, "results": results, "summary": summarize(results)}
    tables.show_together(document, tables.TABLES, "tables", as_json=False, as_markdown=True)
    lines = capsys.readouterr().out.splitlines()
    assert "| good | 1,000 | binary | roc_auc | 0.9000 | 0.8000 | +0.1000 | 30 | 9.5 | 3 of 20 |" in lines
    assert (
        "At least as good on 1 of 2 tables; worse by more than 2% on 1; the worst is bad (-6.2%); at most 30 s for a"
        " table." in lines
    )
