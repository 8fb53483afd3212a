from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.errors import UserError
from farandole.serving.access import limits as limits_module
from farandole.serving.access.allowances import Rate
from farandole.serving.access.callers import AccessDenied, Caller
from farandole.serving.access.limits import Limits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that both clocks show, to be changed in place."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(limits_module, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0]))
    return now


def _caller(name: str = "a", rate: Rate | None = None, daily_rows: int | None = None) -> Caller:
    return Caller(f"key:{name}", name, frozenset({"predict"}), rate, daily_rows)


def _take(limits: Limits, caller: Caller, num_requests: int) -> int:
    taken = 0
    for _ in range(num_requests):
        try:
            limits.take_request(caller)
            taken += 1
        except AccessDenied:
            pass
    return taken


def test_bucket_allows_its_size_and_refills(tmp_path: Path, clock: list[float]) -> None:
    limits, caller = Limits(tmp_path), _caller(rate=Rate(10, "s"))
    assert _take(limits, caller, 30) == 10
    clock[0] += 0.5
    assert _take(limits, caller, 30) == 5
    clock[0] += 3600
    assert _take(limits, caller, 30) == 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 30)), max_size=20))
def test_no_sequence_exceeds_bucket_and_rate(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, int]]
) -> None:
    now = [1000.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
        limits, taken = Limits(tmp_path_factory.mktemp("limits")), 0
        for pause_s, num_requests in steps:
            now[0] += pause_s
            taken += _take(limits, _caller(rate=Rate(7, "s")), num_requests)
        limits.close()
    assert taken <= 7 + 7 * (now[0] - 1000.0) + 1e-6


def test_answer_says_when_to_try_again(tmp_path: Path, clock: list[float]) -> None:
    limits, caller = Limits(tmp_path), _caller(rate=Rate(2, "min"))
    assert _take(limits, caller, 2) == 2
    with pytest.raises(AccessDenied, match="The limit is 2/min requests") as caught:
        limits.take_request(caller)
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (429, "rate_limited", 30)
    assert caught.value.headers == {"Retry-After": "30"}
    clock[0] += 30
    assert _take(limits, caller, 1) == 1


def test_clock_that_starts_again_at_a_boot_fills_the_bucket(tmp_path: Path, clock: list[float]) -> None:
    limits, caller = Limits(tmp_path), _caller(rate=Rate(3, "h"))
    assert _take(limits, caller, 5) == 3
    clock[0] = 12.0
    assert _take(limits, caller, 5) == 3


def test_quota_counts_rows_and_renews_at_midnight(tmp_path: Path, clock: list[float]) -> None:
    limits, caller = Limits(tmp_path), _caller(daily_rows=100)
    limits.take_rows(caller, 60)
    with pytest.raises(AccessDenied, match=r"40 of 100 rows are left until midnight \(UTC\)") as caught:
        limits.take_rows(caller, 41)
    assert (caught.value.status, caught.value.code) == (429, "quota_exhausted")
    assert (clock[0] + caught.value.retry_after_s) % 86400 == 0
    limits.take_rows(caller, 40)
    clock[0] += caught.value.retry_after_s
    limits.take_rows(caller, 100)
    assert limits.rows_today(caller) == 100


def test_request_larger_than_the_quota_is_not_worth_waiting_for(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="has 101 rows, and the daily quota is 100 rows; send fewer") as caught:
        Limits(tmp_path).take_rows(_caller(daily_rows=100), 101)
    assert (caught.value.status, caught.value.retry_after_s) == (413, None)


def test_rows_of_a_failed_request_are_given_back(tmp_path: Path) -> None:
    limits, caller = Limits(tmp_path), _caller(daily_rows=100)
    limits.take_rows(caller, 90)
    with pytest.raises(AccessDenied):
        limits.take_rows(caller, 100)
    limits.give_back_rows(caller, 90)
    limits.take_rows(caller, 100)
    with pytest.raises(AccessDenied):
        limits.take_rows(caller, 1)


def test_restart_keeps_the_quota(tmp_path: Path) -> None:
    caller = _caller(daily_rows=100)
    first = Limits(tmp_path)
    first.take_rows(caller, 100)
    first.close()
    with pytest.raises(AccessDenied):
        Limits(tmp_path).take_rows(caller, 1)


def test_callers_do_not_share_limits(tmp_path: Path, clock: list[float]) -> None:
    limits = Limits(tmp_path)
    for name in ("a", "b"):
        caller = _caller(name, Rate(5, "s"), 10)
        assert _take(limits, caller, 9) == 5
        limits.take_rows(caller, 10)


def test_caller_without_limits_is_never_refused(tmp_path: Path) -> None:
    limits = Limits(tmp_path)
    assert _take(limits, _caller(), 1000) == 1000
    limits.take_rows(_caller(), 10**12)


def test_row_of_a_busy_set_goes_to_a_new_caller(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more callers than a set has rows, the one that was unused for longest starts anew; the others keep theirs."""
    monkeypatch.setattr(limits_module, "_SETS", 1)
    limits = Limits(tmp_path)
    callers = [_caller(str(number), daily_rows=10, rate=Rate(1, "h")) for number in range(17)]
    for caller in callers:
        clock[0] += 1
        limits.take_request(caller)
        limits.take_rows(caller, 10)
    assert [limits.rows_today(caller) for caller in callers[1:]] == [10] * 16
    limits.take_rows(callers[0], 10)


def test_damaged_file_refuses_nobody_for_ever(tmp_path: Path, clock: list[float]) -> None:
    limits, caller = Limits(tmp_path), _caller(rate=Rate(3, "s"), daily_rows=5)
    limits.take_request(caller)
    path = tmp_path / "limits-v1.bin"
    content = bytearray(path.read_bytes())
    start = next(at for at in range(0, len(content), 48) if any(content[at : at + 16]))
    content[start + 16 : start + 48] = struct.pack("<ddqq", float("nan"), float("nan"), -5, -7)
    path.write_bytes(content)
    assert _take(Limits(tmp_path), caller, 9) == 3
    limits.take_rows(caller, 5)


def test_full_size_is_allocated_at_the_start(tmp_path: Path) -> None:
    Limits(tmp_path)
    found = (tmp_path / "limits-v1.bin").stat()
    assert found.st_blocks * 512 >= found.st_size == 16 * 1024 * 48


def test_directory_without_permission_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "limits-v1.bin").mkdir()
    with pytest.raises(UserError, match=r"limits-v1\.bin: Is a directory"):
        Limits(tmp_path)
