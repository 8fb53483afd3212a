from __future__ import annotations

from pathlib import Path

import pytest

from farandole.events import Message, Progress, StageEnded, StageStarted
from farandole.jobdir.outcome import (
    EventLogger,
    append_log,
    clear_outcome,
    read_outcome,
    read_progress,
    read_result,
    write_outcome,
    write_result,
)
from farandole.process.atomic import draft_path


def test_newest_event_is_kept_and_every_event_is_logged_with_its_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLogger(tmp_path)
    assert read_progress(tmp_path) is None
    log(StageStarted("prepare", "preparing"))
    log(Message("a warning of\ntwo lines", level="warning"))
    newest = read_progress(tmp_path)
    assert newest is not None
    assert (newest.stage, newest.text) == ("prepare", "warning: a warning of\ntwo lines")
    log(StageEnded("train", "10 steps"))
    newest = read_progress(tmp_path)
    assert newest is not None
    assert newest.stage == "train"
    lines = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [text for _, text in lines] == [
        "prepare: preparing",
        "warning: a warning of",
        "two lines",
        "train: 10 steps",
    ]
    assert all(time.startswith("20") and time.endswith("+00:00") for time, _ in lines)


def test_frequent_progress_is_only_logged_now_and_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLogger(tmp_path)
    for done in range(1000):
        log(Progress("train", done, 1000, "rows", "epoch 1"))
    assert len(capsys.readouterr().out.splitlines()) < 10
    newest = read_progress(tmp_path)
    assert newest is not None
    assert newest.text.startswith("train: epoch 1, ")


def test_clearing_removes_outcome_result_and_drafts_and_keeps_the_log(tmp_path: Path) -> None:
    write_outcome(tmp_path, "the disk is full")
    EventLogger(tmp_path)(StageStarted("train", "starting 2 workers"))
    append_log(tmp_path, "failed: the disk is full")
    write_result(tmp_path, {"loss": float("nan")})
    assert read_result(tmp_path) == {"loss": None}
    write_result(tmp_path, {"job": "small"})
    draft_path(tmp_path / "status.json").touch()
    assert read_outcome(tmp_path) == "the disk is full"
    clear_outcome(tmp_path)
    assert read_outcome(tmp_path) is None
    assert read_progress(tmp_path) is None
    assert read_result(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]
    assert (tmp_path / "job.log").read_text().endswith(" failed: the disk is full\n")


def test_removed_directory_is_ignored(tmp_path: Path) -> None:
    append_log(tmp_path / "gone", "words")
    EventLogger(tmp_path / "gone")(StageStarted("train", "starting"))
    assert not (tmp_path / "gone").exists()
