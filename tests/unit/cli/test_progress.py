"""The display of events: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from farandole.cli import progress
from farandole.cli.progress import event_display
from farandole.events import Message, Progress, StageEnded, StageStarted

_JOB = """
import sys
from farandole.cli.progress import event_display
from farandole.events import Message, Progress, StageEnded, StageStarted
with event_display() as on_event:
    on_event(StageStarted("train", "training on 2 workers"))
    for done in (100, 200):
        on_event(Progress("train", done, 400, "rows", "epoch 1 of 2", 1234.5))
        sys.stdin.readline()
    on_event(Message("a [/note] with [brackets]", level="warning"))
    on_event(StageEnded("train", "4 steps, [fast]"))
"""


def test_terminal_shows_the_rate_and_the_time_left_then_a_line_for_the_stage() -> None:
    shown, terminal = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", _JOB], stdin=subprocess.PIPE, stderr=terminal, stdout=terminal, env=variables
    )
    assert process.stdin is not None
    os.close(terminal)
    text, awaited = b"", [b"1,230 rows/s", b" left"]  # after the first event, and after the second
    while True:
        try:
            part = os.read(shown, 65536)
        except OSError:  # the other side has closed
            break
        if not part:
            break
        text += part
        while awaited and awaited[0] in text:
            del awaited[0]
            process.stdin.write(b"\n")
            process.stdin.flush()
    os.close(shown)
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    drawn = text.decode()
    assert "1,230 rows/s" in drawn
    assert "epoch 1 of 2" in drawn
    assert "left" in drawn
    assert "a [/note] with [brackets]" in drawn
    assert "4 steps, [fast]" in drawn


def test_pipe_gets_lines_but_not_one_for_every_event(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 3600.0)
    with event_display() as on_event:
        on_event(StageStarted("prepare", "preparing x"))
        for done in range(50):
            on_event(Progress("prepare", done, 50, "tasks", "writing shards"))
        on_event(Progress("train", 10, 20, "rows", "epoch 1 of 1", 5.0))
        on_event(Message("careful", level="warning"))
        on_event(StageEnded("prepare", "done"))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line.split("] ", 1)[1] for line in captured.err.splitlines()]
    assert lines == [
        "prepare: preparing x",
        "prepare: writing shards, 0 of 50 tasks",
        "warning: careful",
        "prepare: done",
    ]
