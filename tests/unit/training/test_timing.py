from __future__ import annotations

import pytest

from farandole.training.timing import TimeSplit, find_straggler, step_time_metrics


def test_difference_of_time_splits_is_computed_by_activity() -> None:
    split = TimeSplit(compute_s=1.0)
    before = TimeSplit(*split.seconds)
    split.add("compute", 0.5)
    split.add("data_wait", 0.25)
    assert split.since(before) == TimeSplit(data_wait_s=0.25, compute_s=0.5)
    with split.measure("evaluate"):
        pass
    assert split.evaluate_s > 0


def test_step_times_are_metrics_by_rank() -> None:
    found = step_time_metrics([TimeSplit(compute_s=2.0), TimeSplit(all_reduce_wait_s=1.0)], 10)
    assert found["system/rank_0/compute_ms"] == pytest.approx(200)
    assert found["system/rank_1/all_reduce_wait_ms"] == pytest.approx(100)
    assert len(found) == 8


def test_rank_that_slows_the_others_down_is_found() -> None:
    fast = TimeSplit(compute_s=5.0, all_reduce_wait_s=3.0)
    slow = TimeSplit(compute_s=8.0)
    assert find_straggler([fast, slow, fast]) == {"rank": 1, "excess_s": 3.0, "share": 0.375}


def test_small_differences_are_ignored() -> None:
    assert find_straggler([TimeSplit(compute_s=5.0), TimeSplit(compute_s=5.4)]) is None
    assert find_straggler([TimeSplit(compute_s=5.0)]) is None
    assert find_straggler([TimeSplit(compute_s=0.1), TimeSplit(compute_s=0.5)]) is None  # a training of a moment
