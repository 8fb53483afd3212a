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
    TimeLeft,
    format_count,
    format_duration,
    format_metric,
    format_rate,
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
        "train: epoch 1, 3 of 10 rows, 12.5 rows/s",
        "prepare: ",
        "warning: look here",
    ]
    assert str(EVENTS[6]) == "epoch 2 of 5: validation roc_auc 0.75, log_loss 1"


def test_metric_is_rounded_for_people() -> None:
    values = (0.81254, 17.73078727722168, 9999.7, 23456.78, 0.0000123456, float("nan"))
    assert [format_metric(value) for value in values] == ["0.8125", "17.73", "10,000", "23,457", "1.235e-05", "nan"]
    assert [format_metric(value) for value in (999.94, 999.97, -999.97, 1000.4)] == [
        "999.9",
        "1,000",
        "-1,000",
        "1,000",
    ]


def test_count_has_separators_and_a_plural() -> None:
    assert [format_count(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


def test_rate_has_three_digits() -> None:
    rates = (0.0, 0.123456, 9.5161, 12.5, 99.96, 1234.5, 181_131.0, 12_345_678.0)
    assert [format_rate(rate).removesuffix(" rows/s") for rate in rates] == [
        "0",
        "0.123",
        "9.52",
        "12.5",
        "100",
        "1,230",
        "181,000",
        "12,300,000",
    ]


def test_duration_is_given_in_the_two_largest_units() -> None:
    durations = (0.04, 4, 9.94, 9.96, 59.4, 200, 3_599.6, 7_500, 97_200)
    assert [format_duration(seconds) for seconds in durations] == [
        "0.0 s",
        "4 s",
        "9.9 s",
        "10 s",
        "59 s",
        "3 min 20 s",
        "1 h 0 min",
        "2 h 5 min",
        "1 d 3 h",
    ]


def test_time_left_follows_the_pace_since_the_stage_began_here() -> None:
    time_left = TimeLeft()
    assert time_left.update(Progress("train", 500, 1000, "rows"), 10.0) is None  # resumed in the middle
    assert time_left.update(Progress("train", 600, 1000, "rows"), 12.0) == pytest.approx(8.0)
    assert time_left.update(Progress("evaluate", 100, 200, "rows"), 13.0) is None
    assert time_left.update(Progress("evaluate", 150, 200, "rows"), 14.0) == pytest.approx(1.0)


def test_time_left_is_unknown_for_tasks_and_as_reported_where_it_is() -> None:
    time_left = TimeLeft()
    for done in (0, 5):
        assert time_left.update(Progress("prepare", done, 10, "tasks"), float(done)) is None
    assert time_left.update(Progress("sweep", 1, 10, "trials", left_s=90.0), 1.0) == 90.0
