"""Training next to others, for real and with few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.train.bench import SYSTEMS, TrainBench, bench_train
from benchmarks.train.cases import TRAINING_CASES
from farandole.errors import SpecError, UnavailableError
from farandole.training.model_builder import build_model


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
def test_all_systems_learn_the_same_from_the_same_batches() -> None:
    document = bench_train(TrainBench(cases=["mnist_cnn"], quick=True))
    results = {result["system"]: result for result in document["results"]}
    assert list(results) == list(SYSTEMS)
    loss = results["single"]["loss"]
    for name, result in results.items():
        assert result["loss"] == pytest.approx(loss, rel=1e-3), name
        assert result["workers"] == (1 if name == "single" else 2)
        assert all(result[figure] > 0 for figure in ("step_ms", "cpu_ms", "rows_per_s", "peak_rss_mb"))


@pytest.mark.parametrize(
    ("bench", "problem"),
    [
        (TrainBench(cases=["mnist_cn"]), "--case: mnist_cn: unknown; did you mean mnist_cnn?"),
        (TrainBench(systems=["dpp"]), "--system: dpp: unknown; did you mean ddp?"),
    ],
)
def test_an_unknown_training_is_refused_with_the_nearest(bench: TrainBench, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        bench_train(bench)
    assert str(caught.value) == problem


def test_more_processes_than_gpus_are_refused() -> None:
    found = torch.cuda.device_count()
    with pytest.raises(UnavailableError, match=rf"--gpus: torch finds {found} usable GPUs here, and {found + 1} "):
        bench_train(TrainBench(workers=found + 1, gpus=1))


@pytest.mark.parametrize("name", TRAINING_CASES)
def test_a_case_has_a_network_that_fits_its_columns(name: str, tmp_path: Path) -> None:
    case = TRAINING_CASES[name]
    model = build_model(case.job(tmp_path, 10), case.schema)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters > 9.9e6) == (name == "mlp10m")
