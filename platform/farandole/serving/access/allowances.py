"""Rates and durations as people write them: `10/s`, `600/min`, `30d`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from farandole.errors import UserError

_PERIODS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"(?P<count>\d{1,9}) */ *(?P<period>s|min|h)")
_DURATION = re.compile(r"(?P<count>\d{1,6}) *(?P<unit>min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of requests: at most `count` at once, and `count` in each period on average.

    Args:
        count: Requests; the size of the token bucket.
        period: `s`, `min` or `h`.
    """

    count: int
    period: str

    @property
    def per_second(self) -> float:
        """Return how fast the bucket fills, in requests per second."""
        return self.count / _PERIODS_S[self.period]

    def __str__(self) -> str:
        return f"{self.count}/{self.period}"


def parse_rate(text: str, origin: str) -> Rate:
    """Return the rate that a text such as `10/s` means.

    Args:
        text: The text.
        origin: Where it comes from, for the error: `--rate`.

    Raises:
        UserError: The text is not a rate, or its count is 0.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None or int(match["count"]) == 0:
        raise UserError(
            f"{origin}: {text!r} is not a rate; write a number of requests and a period, as in 10/s, 600/min or 5000/h"
        )
    return Rate(int(match["count"]), match["period"])


def parse_expiry(text: str, now: datetime, origin: str) -> datetime | None:
    """Return the time that a text such as `30d`, `2027-01-31` or `never` means; None: never.

    Args:
        text: A duration from now, a date or a time of ISO 8601 (UTC unless it says otherwise), or `never`.
        now: The present time, with a time zone.
        origin: Where the text comes from, for the error: `--expires`.

    Raises:
        UserError: The text is none of these, or the time has passed.
    """
    words = text.strip()
    if words == "never":
        return None
    match = _DURATION.fullmatch(words)
    try:
        if match is not None:
            expiry = now + timedelta(**{_UNITS[match["unit"]]: int(match["count"])})
        else:
            expiry = datetime.fromisoformat(words)
            expiry = expiry if expiry.tzinfo else expiry.replace(tzinfo=now.tzinfo)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{origin}: {text!r} is neither a duration nor a date; write for example 12h, 30d, 2027-01-31 or never"
        ) from error
    if expiry <= now:
        raise UserError(f"{origin}: {text!r} is not in the future; choose a later time")
    return expiry
