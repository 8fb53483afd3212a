from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DataError
from farandole.preprocess import Summary
from farandole.preprocess.times import TimeNumbersTransform, TimeTransform, _circle
from farandole.spec import Time

LEAP_DAY = datetime.datetime(2024, 2, 29, 23, 59, 30)
UTC = datetime.timezone.utc  # noqa: UP017
PLACES = [
    ("quarter", 4, 0),
    ("month", 12, 1),
    ("week", 53, 8),
    ("day", 31, 28),
    ("day_of_year", 366, 59),
    ("weekday", 7, 3),
    ("hour", 24, 23),
    ("minute", 60, 59),
    ("second", 60, 30),
]


def transform(*parts: str, **spec: Any) -> TimeTransform:
    """Return a transform of these parts."""
    return TimeTransform("t", "raw", Time.model_validate({"kind": "time", "parts": parts, **spec}))


def naive(*values: datetime.datetime | None) -> pa.Array:
    """Return timestamps without a zone."""
    return pa.array(values, pa.timestamp("us"))


@pytest.mark.parametrize(("part", "length", "place"), PLACES)
def test_category_is_the_position_in_its_cycle_from_1(part: str, length: int, place: int) -> None:
    time = transform(part, encoding="category")
    result = time.apply(naive(LEAP_DAY, None))
    assert result.dtype == np.int32
    assert result.tolist() == [[place + 1], [0]]
    assert time.cardinalities == (length + 1,)
    assert time.features == (f"t_{part}",)
    assert time.group == "categorical"


@pytest.mark.parametrize(("part", "length", "place"), PLACES)
def test_cyclic_part_is_a_point_on_a_circle(part: str, length: int, place: int) -> None:
    time = transform(part)
    result = time.apply(naive(LEAP_DAY, None))
    angle = 2 * math.pi * place / length
    assert result.dtype == np.float32
    assert result[0].tolist() == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)
    assert result[1].tolist() == [0.0, 0.0]
    assert time.cardinalities == ()
    assert time.features == (f"t_{part}_sin", f"t_{part}_cos")
    assert time.group == "dense"


@pytest.mark.parametrize(
    ("part", "first", "last"),
    [
        ("month", datetime.datetime(2023, 1, 5), datetime.datetime(2023, 12, 5)),
        ("day", datetime.datetime(2023, 1, 1), datetime.datetime(2023, 1, 31)),
        ("day_of_year", datetime.datetime(2024, 1, 1), datetime.datetime(2024, 12, 31)),
        ("weekday", datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 7)),
        ("hour", datetime.datetime(2023, 1, 1, 0), datetime.datetime(2023, 1, 1, 23)),
        ("minute", datetime.datetime(2023, 1, 1, 0, 0), datetime.datetime(2023, 1, 1, 0, 59)),
    ],
)
def test_ids_range_from_1_to_the_length_of_the_cycle(
    part: str, first: datetime.datetime, last: datetime.datetime
) -> None:
    time = transform(part, encoding="category")
    assert time.apply(naive(first, last)).tolist() == [[1], [time.cardinalities[0] - 1]]


def test_parts_follow_in_declared_order() -> None:
    time = transform("minute", "hour", "weekday", encoding="category")
    assert time.apply(naive(LEAP_DAY)).tolist() == [[60, 24, 4]]
    assert transform("minute", "hour").apply(naive(LEAP_DAY)).shape == (1, 4)


def test_date_is_its_midnight() -> None:
    dates = pa.array([datetime.date(2024, 2, 29), None], pa.date32())
    assert transform("day", "hour", encoding="category").apply(dates).tolist() == [[29, 1], [0, 0]]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+05:30"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_time_with_a_zone_is_read_in_utc(zone: str, unit: str) -> None:
    instant = datetime.datetime(2013, 7, 1, 0, 30, tzinfo=UTC)
    times = pa.array([instant, None], pa.timestamp(unit, tz=zone))
    assert transform("hour", "day", encoding="category").apply(times).tolist() == [[1, 1], [0, 0]]


def test_times_before_1970_have_parts() -> None:
    time = transform("hour", "weekday", encoding="category")
    assert time.apply(naive(datetime.datetime(1969, 12, 31, 23, 0))).tolist() == [[24, 3]]


@pytest.mark.parametrize("values", [pa.array(["2024-01-01"]), pa.array([1]), pa.array([datetime.time(1)])])
def test_value_that_is_not_a_time_is_rejected(values: pa.Array) -> None:
    with pytest.raises(DataError, match=r"column raw: .* is not a time, yet its feature is"):
        transform("hour").apply(values)


@pytest.mark.parametrize("encoding", ["cyclic", "category"])
def test_declaration_survives_a_round_trip(encoding: str) -> None:
    time = transform("hour", "day", encoding=encoding, group="clock")
    assert TimeTransform.from_dict(time.to_dict()) == time
    assert time.group == "clock"


def test_no_rows_give_no_rows() -> None:
    assert transform("hour", "day").apply(naive()).shape == (0, 4)


# Numbers ------------------------------------------------------------------------------------------------------


def as_numbers_of(*parts: str, values: pa.Array, scale: str = "none") -> TimeNumbersTransform:
    """Return a fitted transform of these parts."""
    spec = Time.model_validate({"kind": "time", "parts": parts, "encoding": "number", "scale": scale})
    time = TimeNumbersTransform("t", "raw", spec)
    while not time.fitted:
        summaries = {part: Summary() for part in parts}
        for part, numbers in time.observe(values).items():
            summaries[part].add(numbers)
        time = time.learn(summaries)
    return time


def test_numeric_parts_match_the_calendar() -> None:
    values = naive(LEAP_DAY, datetime.datetime(2021, 1, 3, 6))
    parts = ("year", "quarter", "month", "week", "day", "day_of_year", "weekday", "is_weekend", "hour", "minute")
    time = as_numbers_of(*parts, "second", "days", values=values)
    assert time.features == tuple(f"t_{part}" for part in (*parts, "second", "days"))
    assert (time.group, time.cardinalities) == ("dense", ())
    first, second = time.apply(values).tolist()
    assert first[:-1] == [2024, 1, 2, 9, 29, 60, 3, 0, 23, 59, 30]
    assert second == [2021, 1, 1, 53, 3, 3, 6, 1, 6, 0, 0, 18630.25]
    assert first[-1] == pytest.approx(19782 + (24 * 3600 - 30) / 86400, abs=1e-3)


def test_numbers_are_scaled_and_the_median_replaces_a_missing_time() -> None:
    years = [datetime.datetime(year, 5, 1) for year in (2010, 2012, 2014)]
    time = as_numbers_of("year", "month", values=naive(*years, None), scale="minmax")
    assert time.apply(naive(*years, None))[:, 0].tolist() == [0, 0.5, 1, 0.5]
    assert time.apply(naive(*years))[:, 1].tolist() == [0, 0, 0]
    again = TimeNumbersTransform.from_dict(time.to_dict())
    assert again == time
    assert again.fitted


def test_dates_are_times_at_midnight() -> None:
    day = datetime.date(2024, 3, 2)
    time = as_numbers_of("days", "is_weekend", values=pa.array([day]))
    assert time.apply(pa.array([day])).tolist() == [[19784.0, 1.0]]


def test_column_without_any_time_is_rejected() -> None:
    with pytest.raises(DataError, match=r"features\.t_year: column raw: no training row has a value"):
        as_numbers_of("year", values=naive(None))


@pytest.mark.parametrize("length", sorted({length for _, length, _ in PLACES}))
def test_a_circle_has_the_bits_of_sine_and_cosine_of_each_row(length: int) -> None:
    positions = np.random.default_rng(length).integers(0, length, 1001)
    angles = positions * (2 * np.pi / length)
    for table, wave in zip(_circle(length), (np.sin, np.cos), strict=True):
        assert table[positions].tobytes() == wave(angles).astype(np.float32).tobytes()
        assert table[length] == 0, "a missing time"
