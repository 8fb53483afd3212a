"""The table at the end of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.cli.render import show_run
from farandole.spec import parse_job

JOB = parse_job(
    {
        "name": "small",
        "data": {
            "sources": {"rows": {"path": "rows.csv", "columns": {"size": "double", "late": "int"}}},
            "features": {"size": {"kind": "numeric"}},
            "label": {"column": "late", "kind": "binary"},
        },
        "model": {"builder": "farandole.models.mlp:build"},
    },
    folder=Path(),
)
SPLIT = {"data_wait_s": 0.5, "compute_s": 8.0, "all_reduce_wait_s": 1.0}


def document(**training: Any) -> dict[str, Any]:
    done = {
        "mlflow_run_id": "abc",
        "attempts": 2,
        "workers": 2,
        "steps": 40,
        "rows_per_s": 1234.5,
        "metrics": {"test": {"roc_auc": 0.81}, "validation": {}},
        "time_split": SPLIT,
        "time_by_rank": [SPLIT, SPLIT | {"compute_s": 12.25}],
        "straggler": None,
    }
    dataset = {"path": "/data/small", "reused": True, "rows": {"train": 800, "test": 200}}
    return {
        "id": "small-1",
        "directory": "/jobs/small-1",
        "dataset": dataset,
        "training": done | training,
        "model": {"uri": "models:/small/3"},
    }


def shown(capsys: pytest.CaptureFixture[str], found: dict[str, Any]) -> str:
    show_run(Path("job.yaml"), JOB, found, as_json=False)
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_what_was_trained_and_where_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, document())
    assert "small: models:/small/3" in text
    assert "test metrics roc_auc 0.8100 validation metrics none" in text
    assert "1,234 rows/s (2 workers, 40 steps, attempt 2)" in text
    assert "time data wait 0.5 s, compute 8.0 s, all reduce wait 1.0 s" in text
    assert "1: data wait 0.5 s, compute 12.2 s" in text
    assert "shards /data/small (reused)" in text
    assert "straggler" not in text


def test_a_worker_that_lets_the_others_wait_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    slow = {"rank": 1, "excess_s": 4.25, "share": 0.375}
    text = shown(capsys, document(straggler=slow))
    assert "straggler worker 1 computes 4.2 s longer than the others, who wait for it (38% of the time)" in text


def test_a_run_that_mlflow_does_not_have_yet_comes_with_the_command_that_sends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "sync small-1" in shown(capsys, document(mlflow_run_id=None))
