"""A job's state on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

from farandole.events import Event, ignore_event
from farandole.jobdir.status import StatusWriter, read_status, resume_command


def test_state_is_one_document_and_history_one_line_per_event(tmp_path: Path) -> None:
    record = StatusWriter(tmp_path, ignore_event)
    record.change(mlflow_run_id=None)
    first = read_status(tmp_path)
    assert first is not None
    assert (first["id"], first["state"], first["attempt"]) == (tmp_path.name, "queued", 0)
    record.event("started", attempt=1, workers=2)
    record.change(state="running", reason="attempt 1 is starting", attempt=1, workers=2, hosts=("localhost:2",))
    status = read_status(tmp_path)
    assert status is not None
    assert status["state"] == "running"
    assert status["hosts"] == ["localhost:2"]
    assert status["since"] >= first["since"]
    assert status["pid"] == os.getpid()
    record.event("ended", state="failed")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], "time" in line) for line in lines] == [("started", True), ("ended", True)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_since_is_the_begin_of_the_state_not_the_last_write(tmp_path: Path) -> None:
    record = StatusWriter(tmp_path, ignore_event)
    record.change(state="running")
    since = record.status.since
    record.change(step=7)
    record.progress(8, 1, "abc")
    assert record.status.since == since
    assert (record.status.step, record.status.epoch, record.status.mlflow_run_id) == (8, 1, "abc")


def test_unwritable_state_is_warned_of_once(tmp_path: Path) -> None:
    told: list[Event] = []
    record = StatusWriter(tmp_path / "nowhere", told.append)
    record.change(state="running")
    record.change(state="failed")
    record.event("ended")
    assert len(told) == 1
    assert "status.json: cannot be written (No such file or directory); the job continues" in str(told[0])


def test_job_without_a_state_has_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None


def test_submitted_and_foreground_jobs_are_resumed_by_different_commands(tmp_path: Path) -> None:
    assert resume_command(tmp_path) == "farandole train --resume"
    (tmp_path / "runner.lock").touch()
    assert resume_command(tmp_path) == f"farandole retry {tmp_path.name}"
