from __future__ import annotations

import dataclasses
import json

import pytest

from farandole.events import (
    EpochMetrics,
    Event,
    Message,
    Progress,
    StageEnded,
    StageStarted,
    event_from_dict,
    event_to_dict,
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


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_as_one_line_of_json(event: Event) -> None:
    line = json.dumps(event_to_dict(event))
    assert "\n" not in line
    assert event_from_dict(json.loads(line)) == event


def test_events_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Message("a").text = "b"  # type: ignore[misc]


def test_who_does_not_watch_ignores_all() -> None:
    assert [ignore_event(event) for event in EVENTS] == [None] * len(EVENTS)  # type: ignore[func-returns-value]


def test_an_event_prints_as_a_line_for_the_reader() -> None:
    assert [str(event) for event in EVENTS[:5]] == [
        "prepare: reading",
        "train: done",
        "train: epoch 1, 3 of 10 rows, 12 rows/s",
        "prepare: ",
        "warning: look here",
    ]
    assert str(EVENTS[6]) == "epoch 2 of 5: validation roc_auc 0.7500, log_loss 1.0000"
