from __future__ import annotations

import pytest
import torch

from farandole.training.checkpoint.staging import StagingBuffers


def test_a_copy_keeps_what_was_there_when_the_state_goes_on() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    copied = StagingBuffers().take({"w": weight, "step": 7})
    with torch.no_grad():
        weight.zero_()
    assert copied["step"] == 7
    assert copied["w"].tolist() == [1, 1, 1]
    assert not copied["w"].requires_grad


def test_memory_is_used_again_where_it_fits() -> None:
    host = StagingBuffers()
    first = host.take([torch.ones(4), torch.ones(2)])
    places = [tensor.data_ptr() for tensor in first]
    second = host.take([torch.zeros(4), torch.zeros(3)])
    assert second[0].data_ptr() == places[0]
    assert [tensor.tolist() for tensor in second] == [[0] * 4, [0] * 3]
    third = host.take([torch.zeros(4, dtype=torch.int32)])
    assert third[0].dtype == torch.int32


def test_the_order_of_a_tensors_memory_is_kept() -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert StagingBuffers().take([image])[0].stride() == image.stride()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_copy_from_a_gpu_lies_in_pinned_memory() -> None:
    (copied,) = StagingBuffers().take([torch.arange(5, device="cuda")])
    assert copied.is_pinned()
    assert copied.tolist() == [0, 1, 2, 3, 4]
