from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.checkpoint.bench import CheckpointBench, bench_checkpoint


@pytest.mark.slow
def test_steps_with_and_without_checkpoints_are_measured_in_one_gang(tmp_path: Path) -> None:
    # 80 steps from one checkpoint to the next: one that comes due while another is being written is left out.
    bench = CheckpointBench(every_steps=40, hidden=32, pairs=2, global_batch_size=16, directory=str(tmp_path))
    document = bench_checkpoint(bench)
    without, with_one = document["results"]
    assert (without["system"], with_one["system"]) == ("no checkpoints", "every 40 steps")
    assert (without["stretches"], with_one["stretches"]) == (2, 2)
    assert with_one["cost"] == pytest.approx(with_one["step_ms"] / without["step_ms"] - 1, abs=0.02)
    assert with_one["checkpoint_mb"] > 0
    assert with_one["written_after_ms"] >= with_one["writer_processor_ms"] > 0
    assert list(tmp_path.iterdir()) == []
