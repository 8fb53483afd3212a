"""End-to-end benchmark with one round on the small table."""

from __future__ import annotations

import pytest

from benchmarks.end_to_end.bench import EndToEndBench, bench_end_to_end


@pytest.mark.slow(seconds=150)
def test_all_systems_reach_a_registered_model() -> None:
    document = bench_end_to_end(EndToEndBench(cases=["small"], repeats=1))
    by_system = {result["system"]: result for result in document["results"]}
    assert {"farandole", "farandole_repeat", "boosting", "ddp"} <= set(by_system)
    for result in by_system.values():
        assert result["roc_auc"] > 0.7
        assert sum(result["parts"].values()) == pytest.approx(result["seconds"], abs=0.5)
    assert {"start of workers", "training", "logging and registering"} <= set(by_system["farandole"]["parts"])
    assert by_system["farandole_repeat"]["dataset_digest"] == by_system["farandole"]["dataset_digest"]
