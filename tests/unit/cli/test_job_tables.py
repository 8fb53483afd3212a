from __future__ import annotations

import datetime
import json

import pytest

from farandole.backends.protocol import JobStatus, SubmittedJob
from farandole.cli.job_tables import show_jobs, show_status, show_submitted


def _status(**changes: object) -> JobStatus:
    now = datetime.datetime.now(datetime.UTC)
    times = {"submitted_at": (now - datetime.timedelta(hours=3)).isoformat(), "since": now.isoformat()}
    fields = {"id": "flights-1", "name": "flights", "backend": "local", "state": "running", "reason": "is [starting]"}
    return JobStatus(**{**fields, **times, **changes})  # type: ignore[arg-type]


def test_the_id_alone_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show_submitted(SubmittedJob("flights-1", "local"), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == "flights-1\n"
    assert "farandole logs -f flights-1" in captured.err
    show_submitted(SubmittedJob("flights-1", "local"), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"id": "flights-1", "backend": "local", "mlflow_run_id": None}


def test_a_block_says_what_is_known_and_leaves_out_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(_status(), as_json=False)
    shown = capsys.readouterr().out
    assert "is [starting]" in shown
    assert "3 h ago" in shown
    assert "attempt" not in shown
    details = {"directory": "/jobs/flights-1", "hosts": ["localhost:2"], "recoveries": 2}
    trained = _status(stage="train", attempt=3, workers=2, step=1200, epoch=4, priority=5, details=details)
    show_status(trained, as_json=False)
    shown = capsys.readouterr().out
    for words in ("3 of 2 workers, 2 recoveries", "1,200, 4 epochs done", "local, priority 5", '["localhost:2"]'):
        assert words in shown
    show_status(trained, as_json=True)
    assert json.loads(capsys.readouterr().out)["details"] == details


def test_the_newest_jobs_are_listed_and_the_others_counted(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs([], 0, as_json=False)
    assert "farandole submit JOB.yaml" in capsys.readouterr().out
    show_jobs([_status(stage="train", attempt=2, step=1200), _status(id="flights-2", state="queued")], 7, as_json=False)
    shown = capsys.readouterr().out
    assert "train, step 1,200" in shown
    assert "5 more; --limit shows them" in shown
    show_jobs([_status()], 1, as_json=True)
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == ["flights-1"]
