"""Events of trials, written by one process and read by another."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.events import EpochMetrics, Event, Message, Progress
from farandole.jobdir.layout import TRIAL_EVENTS
from farandole.jobdir.trial_events import TrialEventReader, TrialEventWriter
from farandole.process.messages import MessageError

METRICS = EpochMetrics(1, 3, {"roc_auc": 0.75})
WARNING = Message("careful", level="warning")


def test_reader_returns_metrics_and_warnings_once(tmp_path: Path) -> None:
    passed_on: list[Event] = []
    write, reader = TrialEventWriter(tmp_path, passed_on.append), TrialEventReader(tmp_path)
    assert reader.read() == []
    events: list[Event] = [METRICS, Message("a result"), Progress("train", 1, 2, "rows"), WARNING]
    for event in events:
        write(event)
    assert reader.read() == [METRICS, WARNING]
    assert reader.read() == []
    write(METRICS)
    assert reader.read() == [METRICS]
    assert passed_on == [*events, METRICS]


def test_unfinished_line_is_left_for_the_next_read(tmp_path: Path) -> None:
    TrialEventWriter(tmp_path, lambda event: None)(METRICS)
    path = tmp_path / TRIAL_EVENTS
    whole = path.read_bytes()
    reader = TrialEventReader(tmp_path)
    path.write_bytes(whole + whole[:10])
    assert reader.read() == [METRICS]
    path.write_bytes(whole + whole)
    assert reader.read() == [METRICS]


def test_line_that_is_not_an_event_is_an_error(tmp_path: Path) -> None:
    (tmp_path / TRIAL_EVENTS).write_text('{"event": "EpochMetrics", "epoch": 1}\n')
    with pytest.raises(MessageError, match="EpochMetrics needs epochs, metrics"):
        TrialEventReader(tmp_path).read()
