"""Output of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.defaults.bench import summarize

GOLDEN = Path(__file__).parent / "golden"
MACHINE = {"cores": 2, "cpu": "Xeon", "load_1min": 0.5, "python": "3.11", "torch": "2", "pyarrow": "25", "pyspark": "4"}


def _result(system: str, rows_per_s: int, **changes: Any) -> dict[str, Any]:
    fixed = {"version": "1", "about": f"about {system}", "case": "table", "rows": 1000}
    return {"system": system, "rows_per_s": rows_per_s, **fixed, **changes}


def _compared(table: str, score: float, trees: float) -> dict[str, Any]:
    fixed = {"system": "farandole", "about": "about it", "kind": "binary", "metric": "roc_auc", "rows": 1000}
    result = {"case": table, "score": score, "trees": trees, "difference": score - trees, "seconds": 30.0}
    return {**fixed, **result, "training_s": 9.5, "best_epoch": 3, "epochs": 20}


_ABOUT = "a script with torch's DistributedDataParallel on tensors in memory, over gloo, or NCCL on GPUs"
_SPEED = {"mb_per_s": 1234.5, "about": _ABOUT}
DOCUMENTS: dict[str, tuple[tuple[tables.Column, ...], str, list[dict[str, Any]]]] = {
    "loader": (
        tables.LOADER,
        "",
        [
            _result("memcpy_batches", 12_345_678, **_SPEED, first_batch_ms=1234.5, beyond_torch_mb=1234),
            _result("memcpy", 13_345_678, **_SPEED, first_batch_ms=1234.5, beyond_torch_mb=1234),
            _result("farandole", 9_345_678, **_SPEED, first_batch_ms=12.5, resume_ms=1.25, beyond_torch_mb=12),
        ],
    ),
    "ingest": (
        tables.INGEST,
        "",
        [
            _result("farandole", 123_456, seconds=27.3, cpu_s=50.2, with_start_s=33.3, peak_rss_mb=1234, mb_per_s=12),
            _result("parquet_cached", 99_456, seconds=33.3, cpu_s=60.2, with_start_s=39.3, peak_rss_mb=2234, **_SPEED),
        ],
    ),
    "train": (
        tables.TRAIN,
        "",
        [
            _result(system, 98_765, workers=2, step_ms=step_ms, cpu_ms=81.5, peak_rss_mb=812)
            for system, step_ms in (("farandole", 41.46), ("horovod", 41.72), ("ddp", 43.21))
        ],
    ),
    "checkpoint": (
        tables.CHECKPOINT,
        "",
        [
            _result("without", 0, step_ms=120.5, processor_ms=240.1),
            _result("with", 0, step_ms=121.5, processor_ms=250.1, cost=0.01, processor_cost=0.04, checkpoint_mb=121),
        ],
    ),
    "tables": (tables.TABLES, "tables", [_compared("lending_club", 0.9, 0.8), _compared("breast_cancer", 0.75, 0.8)]),
}
"""By benchmark: its columns, its title and results."""
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


@pytest.mark.parametrize("benchmark", DOCUMENTS)
def test_tables_at_80_columns_are_the_golden_ones(
    benchmark: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns, title, results = DOCUMENTS[benchmark]
    document = {"machine": MACHINE, "results": results, **({"summary": summarize(results)} if title else {})}
    tables.show(document, columns, as_json=False, as_markdown=False, title=title)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert shown == (GOLDEN / f"{benchmark}.80.txt").read_text(encoding="utf-8")


def test_terminal_shows_no_wide_columns(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(DOCUMENT, tables.LOADER, as_json=False, as_markdown=False)
    output = capsys.readouterr().out
    assert "of memcpy" in output
    assert "version" not in output


def test_comparison_with_trees_is_one_table_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    results = [_compared("good", 0.9, 0.8), _compared("bad", 0.75, 0.8)]
    document = {"machine": MACHINE, "results": results, "summary": summarize(results)}
    tables.show(document, tables.TABLES, as_json=False, as_markdown=True, title="tables")
    lines = capsys.readouterr().out.splitlines()
    assert "| good | 1,000 | binary | roc_auc | 0.9000 | 0.8000 | +0.1000 | 30 | 9.5 | 3 of 20 |" in lines
    assert (
        "At least as good on 1 of 2 tables; worse by more than 2% on 1; the worst is bad (-6.2%); at most 30 s for a"
        " table." in lines
    )
