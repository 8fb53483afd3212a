"""Errors of a request, with the HTTP status and the kind that metrics count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farandole.errors import FarandoleError

KINDS = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_body",
    413: "too_large",
    415: "media_type",
    422: "invalid_rows",
    429: "queue_full",
    500: "internal",
    503: "unavailable",
    504: "deadline",
}
"""HTTP status to the kind of an error, unless the error names one itself."""


class RequestError(FarandoleError):
    """A request cannot be answered as its caller wishes.

    Args:
        status: The HTTP status.
        message: What the caller reads; it holds nothing that the caller may not know.
        kind: The kind of the error, for programs and for metrics. Default: follows from the status.
        errors: One entry for each wrong row: `row`, `column`, `value`, `rule`, as far as known.
        headers: Headers of the answer, such as `retry-after`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind or KINDS.get(status, "error")
        self.errors = list(errors)
        self.headers = dict(headers or {})


def queue_full(retry_after_s: float) -> RequestError:
    """Return the error of a request that finds a full queue; its header says when to come back."""
    return RequestError(
        429,
        "the queue of this model is full; repeat the request after the time in Retry-After",
        headers={"retry-after": str(max(1, round(retry_after_s)))},
    )


def deadline_passed(deadline_s: float) -> RequestError:
    """Return the error of a request that was not answered in time."""
    return RequestError(504, f"no answer within {deadline_s:g} s; send fewer rows, or repeat the request later")
