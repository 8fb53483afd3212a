from __future__ import annotations

import dataclasses

import pytest

from farandole.events import (
    EpochMetrics,
    Event,
    Message,
    Progress,
    StageEnded,
    StageStarted,
    format_count,
    format_metric,
    ignore_event,
)

EVENTS: list[Event] = [
    StageStarted("prepare", "reading"),
    StageEnded("train", "done"),
    Progress("train", 3, 10, "rows", text="epoch 1", rows_per_s=12.5),
    Progress("prepare", 0, 0, "tasks"),
    Message("look here", level="warning"),
    Message("line\nline é"),
    EpochMetrics(2, 5, {"roc_auc": 0.75, "log_loss": 1.0}),
]


def test_events_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Message("a").text = "b"  # type: ignore[misc]


def test_ignore_event_discards_every_event() -> None:
    assert [ignore_event(event) for event in EVENTS] == [None] * len(EVENTS)  # type: ignore[func-returns-value]


def test_event_prints_as_a_line_for_the_reader() -> None:
    assert [str(event) for event in EVENTS[:5]] == [
        "prepare: reading",
        "train: done",
        "train: epoch 1, 3 of 10 rows, 12 rows/s",
        "prepare: ",
        "warning: look here",
    ]
    assert str(EVENTS[6]) == "epoch 2 of 5: validation roc_auc 0.75, log_loss 1"


def test_metric_is_rounded_for_people() -> None:
    values = (0.81254, 17.73078727722168, 9999.7, 23456.78, 0.0000123456, float("nan"))
    assert [format_metric(value) for value in values] == ["0.8125", "17.73", "10,000", "23,457", "1.235e-05", "nan"]


def test_count_has_separators_and_a_plural() -> None:
    assert [format_count(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
