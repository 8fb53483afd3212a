"""Collective operations in a gang of one. Gangs of several ranks are in tests/integration/training."""

from __future__ import annotations

import pytest
import torch
from horovod.torch import mpi_lib_v2

from farandole.errors import UnavailableError
from farandole.process import messages
from farandole.spec import Horovod
from farandole.training import world


def test_gang_of_another_size_than_requested_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(messages.WORKERS_VARIABLE, "2")
    with (
        pytest.raises(
            UnavailableError, match=r"resources\.workers: the job requests 2 workers, .* in a gang of 1; start"
        ),
        world.init(),
    ):
        pytest.fail("it trained alone")


def test_collectives_in_a_gang_of_one_return_their_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(messages.WORKERS_VARIABLE, raising=False)
    with world.init() as gang:
        assert gang == world.World(rank=0, size=1, local_rank=0, local_size=1)
        assert gang.is_rank_zero
        assert world.all_reduce_sum([1.5, 2.0], "sums") == [1.5, 2.0]
        assert world.broadcast_object({"epoch": 3}, "object") == {"epoch": 3}
        assert world.all_gather_objects({"rank": 0}, "objects") == [{"rank": 0}]
        for tensor in (torch.rand(3, 2).T, torch.tensor(True), torch.rand(4).bfloat16(), torch.empty(0, 2)):
            torch.testing.assert_close(world.broadcast_tensor(tensor, f"tensor {tensor.dtype}"), tensor)
        values = torch.tensor([1.0, 2.0])
        world.start_all_reduce(values, "later").wait()
        assert values.tolist() == [1.0, 2.0]
        rows = torch.arange(12).reshape(3, 4).T
        torch.testing.assert_close(world.all_gather_rows(rows, "rows"), rows)


def test_tensors_that_horovod_cannot_sum_are_rejected() -> None:
    with world.init():
        with pytest.raises(AssertionError, match="strided is not contiguous"):
            world.start_all_reduce(torch.ones(3, 2).T, "strided")
        with pytest.raises(AssertionError, match="half is bfloat16"):
            world.start_all_reduce(torch.ones(3, dtype=torch.bfloat16), "half")


def test_sum_scatter_and_gather_in_a_gang_of_one() -> None:
    with world.init():
        values = torch.arange(4.0)
        assert world.start_all_reduce(values, "whole").wait() is values
        torch.testing.assert_close(world.start_reduce_scatter(values, "parts").wait(), values)
        torch.testing.assert_close(world.start_all_gather(values, "rows").wait(), torch.arange(4.0))


def test_complex_numbers_are_summed_scattered_and_gathered() -> None:
    with world.init():
        values = torch.tensor([1 + 2j, 3 - 1j, 0.5j])
        torch.testing.assert_close(world.start_all_reduce(values, "complex").wait(), values)
        torch.testing.assert_close(world.start_reduce_scatter(values, "parts").wait(), values)
        for rows in (values, values.reshape(3, 1), values[:2].reshape(1, 2), values[:1], values[:2]):
            torch.testing.assert_close(world.start_all_gather(rows, "rows").wait(), rows)


def test_buffers_are_broadcast_and_may_be_absent() -> None:
    with world.init():
        model = torch.nn.BatchNorm1d(2)
        model(torch.randn(8, 2))
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        world.broadcast_buffers(model)
        world.broadcast_buffers(torch.nn.Linear(1, 1))
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffer, before[name])


def test_cpu_build_of_horovod_is_rejected_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mpi_lib_v2, world._GPU_SYMBOL, raising=False)
    world.check_horovod_build(Horovod(), torch.device("cpu"))
    with pytest.raises(UnavailableError, match=r"supports CPUs only .* \(`FARANDOLE_HOROVOD_GPU=1 make setup`\)"):
        world.check_horovod_build(Horovod(), torch.device("cuda", 0))
