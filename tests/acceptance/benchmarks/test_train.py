"""Training benchmark with few steps."""

from __future__ import annotations

import pytest

from benchmarks.train.bench import SYSTEMS, TrainBench, bench_train


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
def test_all_systems_reach_the_same_loss() -> None:
    document = bench_train(TrainBench(cases=["mnist_cnn"], quick=True))
    results = {result["system"]: result for result in document["results"]}
    assert list(results) == list(SYSTEMS)
    loss = results["single"]["loss"]
    for name, result in results.items():
        assert result["loss"] == pytest.approx(loss, rel=1e-3), name
        assert result["workers"] == (1 if name == "single" else 2)
        assert all(result[figure] > 0 for figure in ("step_ms", "cpu_ms", "rows_per_s", "peak_rss_mb"))
