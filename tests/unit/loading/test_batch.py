from __future__ import annotations

import torch

from tests.support.numbered_rows import batch_of


def test_a_batch_for_the_cpu_is_not_copied() -> None:
    batch = batch_of(1, 2)
    assert batch.to(torch.device("cpu")) is batch
