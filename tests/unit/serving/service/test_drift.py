from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.serving.service.drift import DriftCounter, population_stability_index, read_bins, read_counts

STATISTICS = {
    "x": {"kind": "number", "edges": [0, 1, 2], "shares": [0.4, 0.4], "missing_share": 0.2},
    "inner": {"kind": "number", "edges": [1], "shares": [0.5, 0.5]},
    "c": {"kind": "category", "values": ["a", "b"], "shares": [0.5, 0.3], "missing_share": 0.1},
    "picture": {"kind": "image"},
}


def test_bins_follow_the_statistics() -> None:
    bins = {each.name: each for each in read_bins(STATISTICS)}
    assert set(bins) == {"x", "inner", "c"}
    assert bins["x"].labels() == ["-inf..1", "1..inf", "missing"]
    assert bins["x"].shares.tolist() == [0.4, 0.4, 0.2]
    assert bins["c"].labels() == ["a", "b", "other", "missing"]
    assert bins["c"].shares == pytest.approx([0.5, 0.3, 0.1, 0.1])


def test_values_are_counted_by_bin() -> None:
    x, inner, c = read_bins(STATISTICS)
    assert x.count(pa.array([-5.0, 0.5, 1.0, 9.0, None, float("nan")])).tolist() == [2, 2, 2]
    assert inner.count(np.array([0.5, 1.5, 1.5])).tolist() == [1, 2, 0]
    assert c.count(pa.array(["a", "b", "b", "z", None])).tolist() == [1, 2, 1, 1]
    assert c.count(np.array(["a", "z"], dtype=object)).tolist() == [1, 0, 1, 0]
    assert x.count(pa.array([None, None], pa.float64())).tolist() == [0, 0, 2]


def test_booleans_dates_and_decimals_are_counted_as_numbers() -> None:
    (bins,) = read_bins({"x": {"edges": [0.5], "shares": [0.5, 0.5]}})
    assert bins.count(pa.array([True, False, None])).tolist() == [1, 1, 1]
    assert bins.count(pa.array([0, 1], pa.date32())).tolist() == [1, 1, 0]
    assert bins.count(pa.array(["0.25", "1.00"]).cast(pa.decimal128(5, 2))).tolist() == [1, 1, 0]


def test_counts_of_all_workers_are_added_up(tmp_path: Path) -> None:
    bins = read_bins(STATISTICS)
    for worker in (1, 2):
        counter = DriftCounter(bins, tmp_path / f"drift-m-{worker}.counts")
        counter.observe({"x": pa.array([0.5] * worker), "c": pa.array(["b"] * worker)}, worker)
    DriftCounter(bins, tmp_path / "drift-other-1.counts").observe({"x": pa.array([0.5])}, 1)
    x, inner, c = read_counts(tmp_path, "m", bins)
    assert (x.tolist(), inner.tolist(), c.tolist()) == ([3, 0, 0], [0, 0, 0], [0, 3, 0, 0])


def test_counts_are_forgotten_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bins = read_bins(STATISTICS)
    counter = DriftCounter(bins, tmp_path / "drift-m-1.counts")
    now_s = time.time()
    for minutes, total in ((0, 1), (30, 2), (50, 3), (90, 2), (150, 1)):
        monkeypatch.setattr(time, "time", lambda minutes=minutes: now_s + 60 * minutes)
        counter.observe({"x": pa.array([0.5])}, 1)
        assert read_counts(tmp_path, "m", bins)[0].sum() == total


@given(st.lists(st.integers(0, 500), min_size=2, max_size=6))
def test_index_is_zero_without_change_and_never_negative(counts: list[int]) -> None:
    found = np.array(counts)
    index = population_stability_index(found, np.ones(len(counts)))
    assert (index is None) == (found.sum() < 100)
    assert index is None or index >= 0
    if found.sum() >= 100 and found.all():
        assert population_stability_index(found, found / found.sum()) == pytest.approx(0)


def test_index_of_a_known_example() -> None:
    found = population_stability_index(np.array([500, 500]), np.array([0.25, 0.75]))
    assert found == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(0.75 / 0.5))
