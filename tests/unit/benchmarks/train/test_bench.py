"""Options of the training benchmark."""

from __future__ import annotations

import pytest
import torch

from benchmarks.train.bench import TrainBench, bench_train
from farandole.errors import SpecError, UnavailableError


@pytest.mark.parametrize(
    ("bench", "problem"),
    [
        (TrainBench(cases=["mnist_cn"]), "--case: mnist_cn: unknown; did you mean mnist_cnn?"),
        (TrainBench(systems=["dpp"]), "--system: dpp: unknown; did you mean ddp?"),
    ],
)
def test_unknown_name_is_rejected_with_the_closest_one(bench: TrainBench, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        bench_train(bench)
    assert str(caught.value) == problem


def test_more_processes_than_gpus_are_rejected() -> None:
    found = torch.cuda.device_count()
    with pytest.raises(UnavailableError, match=rf"--gpus: torch finds {found} usable GPUs here, and {found + 1} "):
        bench_train(TrainBench(workers=found + 1, gpus=1))
