"""State of a training on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

from farandole.events import Event, ignore_event
from farandole.jobdir.status import StatusWriter, read_history, read_status, resume_command


def test_state_is_one_document_and_history_one_line_per_event(tmp_path: Path) -> None:
    writer = StatusWriter(tmp_path, ignore_event)
    writer.change(mlflow_run_id=None)
    first = read_status(tmp_path)
    assert first is not None
    assert (first.id, first.state, first.attempt) == (tmp_path.name, "queued", 0)
    writer.event("started", attempt=1, workers=2)
    writer.change(state="running", reason="attempt 1 is starting", attempt=1, workers=2, hosts=("localhost:2",))
    status = read_status(tmp_path)
    assert status is not None
    assert status.state == "running"
    assert status.hosts == ("localhost:2",)
    assert status.since >= first.since
    assert status.pid == os.getpid()
    writer.event("ended", state="failed")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], "time" in line) for line in lines] == [("started", True), ("ended", True)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_since_is_the_beginning_of_the_state_not_the_last_write(tmp_path: Path) -> None:
    writer = StatusWriter(tmp_path, ignore_event)
    writer.change(state="running")
    since = writer.status.since
    writer.change(step=7)
    writer.progress(8, 1, "abc")
    assert writer.status.since == since
    assert (writer.status.step, writer.status.epoch, writer.status.mlflow_run_id) == (8, 1, "abc")


def test_unwritable_state_causes_one_warning(tmp_path: Path) -> None:
    events: list[Event] = []
    writer = StatusWriter(tmp_path / "nowhere", events.append)
    writer.change(state="running")
    writer.change(state="failed")
    writer.event("ended")
    assert len(events) == 1
    assert "status.json: cannot be written (No such file or directory); the job continues" in str(events[0])


def test_damaged_lines_of_the_history_are_left_out(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    (tmp_path / "events.jsonl").write_text(
        '{"event": "started"}\n{"time": "20{"event": "met"}\n{"event": "ended"}\n{"eve'
    )
    assert [event["event"] for event in read_history(tmp_path)] == ["started", "ended"]


def test_job_without_a_state_has_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None


def test_state_of_another_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"state": "running", "mood": "good", "hosts": ["a:1"]}))
    status = read_status(tmp_path)
    assert status is not None
    assert (status.id, status.state, status.reason, status.hosts) == (tmp_path.name, "running", "", ("a:1",))


def test_submitted_and_foreground_jobs_are_resumed_by_different_commands(tmp_path: Path) -> None:
    (tmp_path / "foreground.json").write_text('{"resume": "farandole train job.yaml --resume-id a"}')
    assert resume_command(tmp_path) == "farandole train job.yaml --resume-id a"
    (tmp_path / "runner.lock").touch()
    assert resume_command(tmp_path) == f"farandole retry {tmp_path.name}"
