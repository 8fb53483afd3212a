from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from farandole.errors import UserError
from farandole.serving.access.allowances import parse_expiry, parse_rate

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(("text", "per_second"), [("10/s", 10.0), ("600/min", 10.0), ("3600/h", 1.0), (" 5 / s ", 5.0)])
def test_rate_is_requests_per_second(text: str, per_second: float) -> None:
    assert parse_rate(text, "--rate").per_second == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "10", "0/s", "-1/s", "10/day", "1.5/s", "10/s/s", "ten/s", "9999999999/s"])
def test_other_text_is_not_a_rate(text: str) -> None:
    with pytest.raises(UserError, match=r"^--rate: .* is not a rate; write a number of requests and a period"):
        parse_rate(text, "--rate")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("90min", NOW + timedelta(minutes=90)),
        ("2w", NOW + timedelta(weeks=2)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T08:00+02:00", datetime(2027, 1, 31, 6, tzinfo=UTC)),
        ("never", None),
    ],
)
def test_expiry_is_a_duration_a_date_or_never(text: str, expected: datetime | None) -> None:
    assert parse_expiry(text, NOW, "--expires") == expected


@pytest.mark.parametrize("text", ["", "soon", "30", "30x", "999999w", "2027-13-01"])
def test_other_text_is_not_an_expiry(text: str) -> None:
    with pytest.raises(UserError, match=r"--expires: .* is neither a duration nor a date"):
        parse_expiry(text, NOW, "--expires")


@pytest.mark.parametrize("text", ["0d", "2020-01-01"])
def test_expiry_in_the_past_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not in the future"):
        parse_expiry(text, NOW, "--expires")
