"""An optimizer whose state is sharded over the ranks (ZeRO stage 1, Rajbhandari et al. 2020, section 5.1).

Parameters lie side by side in flat buckets; each rank gets the sum of its part of the gradients (a reduce-scatter),
keeps the optimizer's state for this part alone, moves it, and all parts are put together again (an all-gather). That
is the same traffic as one all-reduce. Torch's optimizers work element by element, so the result is the same as
unsharded.

Shapes: N ranks, S elements of a bucket for each rank."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from farandole.spec import Train
from farandole.training import world
from farandole.training.optim.buckets import Bucket, BucketFiller, make_buckets, parameter_views
from farandole.training.optim.grad_sync import squared_norm
from farandole.training.optim.optimizer import build_optimizer, parameter_groups
from farandole.training.world import World

_OF_TENSORS = ("step", "mu", "eta", "mu_product")
"""What torch's optimizers keep once for each tensor; all else has an entry for each element."""


class _Shard:
    """This rank's part of the parameters of a bucket.

    Args:
        bucket: The gradients, `[N * S]`.
        group: The number of the parameter group that they belong to.
        gang: Which rank this is.
    """

    def __init__(self, bucket: Bucket, group: int, gang: World) -> None:
        self.bucket, self.group, self._gang = bucket, group, gang
        first = next(iter(bucket.parameters.values()))
        self._weights = torch.zeros(len(bucket.flat), dtype=first.dtype, device=first.device)
        for parameter, view in zip(
            bucket.parameters.values(), parameter_views(self._weights, bucket.parameters.values()), strict=True
        ):
            view.copy_(parameter.data)
            parameter.data = view
        self.parameter = nn.Parameter(self.part_of(self._weights))

    def part_of(self, flat: torch.Tensor) -> torch.Tensor:
        """This rank's part `[S]` of a flat tensor `[N * S]`."""
        length = len(flat) // self._gang.size
        return flat[self._gang.rank * length : (self._gang.rank + 1) * length]

    def spread(self) -> world.Pending:
        """Begin to give every rank what this one made of its part."""
        return world.start_all_gather(self.parameter.data, f"{self.bucket.name}.weights")

    def take(self, flat: torch.Tensor) -> None:
        """Take over the parts of all ranks."""
        self._weights.copy_(flat)

    def whole(self, name: str, part: torch.Tensor) -> dict[str, torch.Tensor]:
        """By parameter, what all ranks have of a state."""
        flat = world.all_gather_rows(part, f"{self.bucket.name}.{name}") if self._gang.size > 1 else part
        views = parameter_views(flat, self.bucket.parameters.values())
        return {name: view.clone() for name, view in zip(self.bucket.parameters, views, strict=True)}

    def shard(self, whole: dict[str, torch.Tensor]) -> torch.Tensor:
        """This rank's part of a state that is whole for every parameter of the bucket."""
        first = next(iter(whole.values()))
        flat = torch.zeros(len(self._weights), dtype=first.dtype, device=self._weights.device)
        for name, view in zip(
            self.bucket.parameters, parameter_views(flat, self.bucket.parameters.values()), strict=True
        ):
            view.copy_(whole[name])
        return self.part_of(flat).clone()


class ShardedGradientSync:
    """See `farandole.training.optim.grad_sync.GradientSync`.

    Args:
        spec: How to train.
        model: The network, on its device. Its parameters become views of the buckets.
        gang: Which rank this is.
    """

    def __init__(self, spec: Train, model: nn.Module, gang: World) -> None:
        self._gang = gang
        groups = parameter_groups(spec.optimizer, model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        # The order in which an unsharded optimizer numbers the parameters: its state can be exchanged with this one's.
        self._numbers = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
        half = spec.compression == "fp16"
        self._shards: list[_Shard] = []
        for number, group in enumerate(groups):
            members = {names[id(parameter)]: parameter for parameter in group["params"]}
            buckets = make_buckets(f"gradient.{number}", members, spec.horovod, multiple=gang.size, half=half)
            self._shards += [_Shard(bucket, number, gang) for bucket in buckets]
            group["params"] = [shard.parameter for shard in self._shards if shard.group == number]
        self._optimizer = build_optimizer(spec.optimizer, groups)
        self._buckets = [shard.bucket for shard in self._shards]
        self._filling = BucketFiller(self._buckets, world.start_reduce_scatter)

    def enable_sync(self) -> None:
        """See `Update`."""
        self._filling.enable_sync()

    def wait(self) -> None:
        """See `Update`."""
        for shard, part in zip(self._shards, self._filling.wait(), strict=True):
            shard.parameter.grad = part.to(shard.parameter.dtype)

    def squares(self) -> float:
        """See `Update`: of all parts, so a rank learns of a gradient that is not finite on another one."""
        parts = [shard.parameter.grad for shard in self._shards if shard.parameter.grad is not None]
        return world.all_reduce_sum([squared_norm(parts)], "gradient.squares")[0]

    def scale(self, factor: float) -> None:
        """See `Update`."""
        for shard in self._shards:
            assert shard.parameter.grad is not None
            shard.parameter.grad.mul_(factor)

    def step(self, rate: float) -> None:
        """See `Update`."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        if self._gang.size == 1:
            return
        pending = [shard.spread() for shard in self._shards]
        for shard, gathered in zip(self._shards, pending, strict=True):
            shard.take(gathered.wait())

    def forget(self) -> None:
        """See `Update`."""
        for shard in self._shards:
            shard.parameter.grad = None
            for parameter in shard.bucket.parameters.values():
                parameter.grad = None

    def nonfinite_params(self) -> list[str]:
        """See `Update`: those of whose summed gradient this rank's part is not finite."""
        found = []
        for shard in self._shards:
            if shard.parameter.grad is None:
                continue
            marks = torch.zeros_like(shard.bucket.flat)
            shard.part_of(marks).copy_(~shard.parameter.grad.isfinite())
            views = parameter_views(marks, shard.bucket.parameters.values())
            found += [name for name, view in zip(shard.bucket.parameters, views, strict=True) if bool(view.any())]
        return found

    def state_dict(self) -> dict[str, Any]:
        """See `Update`: in the form of the unsharded optimizer."""
        whole: dict[str, dict[str, Any]] = {}
        for shard in self._shards:
            for key, value in self._optimizer.state.get(shard.parameter, {}).items():
                if _is_sharded(key, value):
                    parts = shard.whole(key, value)
                else:  # a tensor for each: torch's optimizers count steps in place
                    parts = {name: copy.deepcopy(value) for name in shard.bucket.parameters}
                for name, part in parts.items():
                    whole.setdefault(name, {})[key] = part
        numbers = {name: number for number, name in enumerate(name for group in self._numbers for name in group)}
        groups = []
        for group, members in zip(self._optimizer.param_groups, self._numbers, strict=True):
            options = {key: value for key, value in group.items() if key != "params"}
            groups.append({**options, "params": [numbers[name] for name in members]})
        state = {numbers[name]: whole[name] for name in numbers if name in whole}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Update`."""
        numbers = {name: number for number, name in enumerate(name for group in self._numbers for name in group)}
        sharded: dict[int, dict[str, Any]] = {}
        for number, shard in enumerate(self._in_order()):
            whole = {name: state["state"].get(numbers[name], {}) for name in shard.bucket.parameters}
            first = next(iter(whole.values()))
            sharded[number] = {
                key: shard.shard({name: values[key] for name, values in whole.items()})
                if _is_sharded(key, value)
                else copy.deepcopy(value)
                for key, value in first.items()
            }
        groups, at = [], 0
        for group, ours in zip(state["param_groups"], self._optimizer.param_groups, strict=True):
            count = len(ours["params"])
            groups.append({**group, "params": list(range(at, at + count))})
            at += count
        self._optimizer.load_state_dict({"state": {k: v for k, v in sharded.items() if v}, "param_groups": groups})

    def _in_order(self) -> list[_Shard]:
        """The shards in the order in which torch's optimizer numbers them."""
        return sorted(self._shards, key=lambda shard: shard.group)


def _is_sharded(key: str, value: Any) -> bool:
    """Whether a state belongs to elements, and not to a tensor as a whole."""
    return isinstance(value, torch.Tensor) and key not in _OF_TENSORS
