from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from farandole.spec import Horovod
from farandole.training.optim.buckets import BucketFiller, make_buckets, parameter_views


@dataclass
class Finished:
    """Pending sum of one rank."""

    tensor: torch.Tensor

    def wait(self) -> torch.Tensor:
        return self.tensor


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1))


def test_parameters_fill_buckets_by_size_last_ones_first() -> None:
    parameters = dict(network().named_parameters())
    (one,) = make_buckets("b", parameters, Horovod())
    assert list(one.parameters) == list(reversed(parameters))
    several = make_buckets("b", parameters, Horovod(num_groups=3), multiple=4)
    assert 1 < len(several) <= 3
    assert [name for bucket in several for name in bucket.parameters] == list(reversed(parameters))
    assert all(len(bucket.flat) % 4 == 0 for bucket in several)
    small = make_buckets("b", parameters, Horovod(bucket_mib=1e-9))
    assert len(small) == len(parameters)


def test_each_type_has_its_own_bucket_and_bfloat16_is_sent_as_float32() -> None:
    model = nn.ParameterDict({"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.bfloat16), "c": torch.zeros(2)})
    buckets = make_buckets("b", dict(model.named_parameters()), Horovod())
    assert [list(bucket.parameters) for bucket in buckets] == [["c"], ["b"], ["a"]]
    assert [bucket.flat.dtype for bucket in buckets] == [torch.float32] * 3


def test_views_have_the_memory_layout_of_their_parameters() -> None:
    image = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    broken = torch.zeros(4, 6)[:, ::2]
    views = parameter_views(torch.arange(300.0), [image, broken])
    assert views[0].stride() == image.stride()
    assert views[1].is_contiguous()
    assert views[1].min() == image.numel()


def test_full_bucket_starts_its_sum_in_the_last_backward_only() -> None:
    model, started = network(), []
    buckets = make_buckets("b", dict(model.named_parameters()), Horovod(bucket_mib=1e-9))

    def start(flat: torch.Tensor, name: str) -> Finished:
        started.append(name)
        return Finished(flat)

    filler = BucketFiller(buckets, start)  # type: ignore[arg-type]
    model(torch.ones(2, 4)).sum().backward()
    assert not started
    once = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    filler.enable()
    model(torch.ones(2, 4)).sum().backward()
    assert sorted(started) == sorted(bucket.name for bucket in buckets)
    filler.wait()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, 2 * once[name])


def test_half_precision_rounds_sent_gradients() -> None:
    model = nn.Linear(1, 1, bias=False)
    (bucket,) = make_buckets("b", dict(model.named_parameters()), Horovod(), half=True)
    filler = BucketFiller([bucket], lambda flat, name: Finished(flat))  # type: ignore[arg-type, return-value]
    filler.enable()
    model(torch.tensor([[1.0001]])).sum().backward()
    filler.wait()
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 1.0
    assert model.weight.grad.dtype == torch.float32
