"""Batch scoring benchmark: both systems predict the same for real flights."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.predict.bench import SYSTEMS, PredictBench, bench_predict
from tests.support.flights_bundle import make_flights_bundle

pytestmark = [pytest.mark.slow(seconds=45), pytest.mark.timeout(900)]


def test_every_system_predicts_the_same_for_all_rows(tmp_path: Path) -> None:
    bundle = make_flights_bundle(tmp_path / "bundle")
    document = bench_predict(PredictBench(rows=(5_000, 340_000), model=bundle.path, repeats=1))
    assert [(result["system"], result["case"]) for result in document["results"]] == [
        (system, f"flights-{rows}") for rows in (5_000, 340_000) for system in SYSTEMS
    ]
    for result in document["results"]:
        assert result["rows_per_s"] > 0
        assert result["cpu_s"] > 0
        assert result["peak_rss_mb"] > 0
