"""Collective operations, in a gang of one; gangs of several are in tests/launch."""

from __future__ import annotations

import pytest
import torch

from farandole.errors import EnvironmentLacking
from farandole.training import messages, world


def test_a_worker_that_was_not_started_by_the_launcher_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(messages.WORKERS_VARIABLE, "2")
    with (
        pytest.raises(
            EnvironmentLacking, match=r"resources\.workers: 2 workers were asked for .* in a gang of 1; start"
        ),
        world.join(),
    ):
        pytest.fail("it trained alone")


def test_a_gang_of_one_is_its_own_chief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(messages.WORKERS_VARIABLE, raising=False)
    with world.join() as gang:
        assert gang == world.World(rank=0, size=1, local_rank=0, local_size=1)
        assert gang.is_chief
        assert world.sum_over_ranks([1.5, 2.0], "sums") == [1.5, 2.0]
        assert world.broadcast_object({"epoch": 3}, "object") == {"epoch": 3}
        assert world.gather_objects({"rank": 0}, "objects") == [{"rank": 0}]
        for tensor in (torch.rand(3, 2).T, torch.tensor(True), torch.rand(4).bfloat16(), torch.empty(0, 2)):
            torch.testing.assert_close(world.broadcast_tensor(tensor, f"tensor {tensor.dtype}"), tensor)
        values = torch.tensor([1.0, 2.0])
        world.start_sum(values, "later").wait()
        assert values.tolist() == [1.0, 2.0]
        rows = torch.arange(12).reshape(3, 4).T
        torch.testing.assert_close(world.gather_rows(rows, "rows"), rows)


def test_what_horovod_cannot_sum_is_refused_before_it_aborts() -> None:
    with world.join():
        with pytest.raises(AssertionError, match="strided is not contiguous"):
            world.start_sum(torch.ones(3, 2).T, "strided")
        with pytest.raises(AssertionError, match="half is bfloat16"):
            world.start_sum(torch.ones(3, dtype=torch.bfloat16), "half")


def test_a_sum_and_its_parts_in_a_gang_of_one() -> None:
    with world.join():
        values = torch.arange(4.0)
        assert world.start_sum(values, "whole").wait() is values
        torch.testing.assert_close(world.start_scatter(values, "parts").wait(), values)
        torch.testing.assert_close(world.start_gather(values, "rows").wait(), torch.arange(4.0))


def test_buffers_are_shared_and_a_model_may_have_none() -> None:
    with world.join():
        model = torch.nn.BatchNorm1d(2)
        model(torch.randn(8, 2))
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        world.broadcast_buffers(model)
        world.broadcast_buffers(torch.nn.Linear(1, 1))
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffer, before[name])
