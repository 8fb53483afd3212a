from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.process.retry import Backoff, retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record pauses instead of sleeping."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def _failing(times: int, error: Exception) -> tuple[list[int], object]:
    calls: list[int] = []

    def action() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return calls, action


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first_s=0.5, longest_s=3.0)
    assert [backoff.pause_s(failures) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(st.integers(1, 2000), st.floats(0.0, 1.0))
def test_jitter_only_shortens_a_pause(failures: int, jitter: float) -> None:
    whole = Backoff(0.5, 20.0).pause_s(failures)
    assert (1 - jitter) * whole - 1e-9 <= Backoff(0.5, 20.0, jitter).pause_s(failures) <= whole


def test_action_is_repeated_until_it_succeeds(pauses: list[float]) -> None:
    calls, action = _failing(2, OSError("busy"))
    assert retry(action, Backoff(1.0, 10.0), lambda error, failures, elapsed_s: None) == "done"  # type: ignore[arg-type]
    assert (len(calls), pauses) == (3, [1.0, 2.0])


def test_error_is_raised_when_it_is_given_up(pauses: list[float]) -> None:
    calls, action = _failing(9, OSError("busy"))
    with pytest.raises(OSError, match="busy"):
        retry(action, Backoff(1.0, 10.0), lambda error, failures, elapsed_s: error if failures == 3 else None)  # type: ignore[arg-type]
    assert len(calls) == 3


def test_another_error_can_be_raised_instead(pauses: list[float]) -> None:
    _, action = _failing(9, OSError("busy"))
    with pytest.raises(RuntimeError, match="no answer for 31 s") as caught:
        retry(
            action,  # type: ignore[arg-type]
            Backoff(1.0, 30.0),
            lambda error, failures, elapsed_s: (
                RuntimeError(f"no answer for {elapsed_s + 1:.0f} s") if elapsed_s > 29 else None
            ),
        )
    assert isinstance(caught.value.__cause__, OSError)


def test_error_of_another_kind_is_raised_at_once(pauses: list[float]) -> None:
    calls, action = _failing(1, KeyError("fault"))
    with pytest.raises(KeyError):
        retry(action, Backoff(1.0, 1.0), lambda error, failures, elapsed_s: None, errors=(OSError,))  # type: ignore[arg-type]
    assert (len(calls), pauses) == (1, [])
