"""Optimizer state sharded over the ranks (ZeRO stage 1, Rajbhandari et al. 2020, section 5.1).

Parameters are contiguous in flat buckets. Each rank receives the sum of its part of the gradients (a reduce-scatter),
keeps the optimizer's state of this part only, updates the part, and all ranks exchange their parts (an all-gather).
That is the same traffic as one all-reduce. Torch's optimizers work element by element, so the result is the same as
without sharding.

Shapes: N ranks, S elements of a bucket for each rank.
"""

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

_PER_TENSOR_STATE = ("step", "mu", "eta", "mu_product")
"""State that torch's optimizers keep once per tensor; all other state has one entry per element."""


class _Shard:
    """This rank's part of the parameters of a bucket.

    Args:
        bucket: The gradients, `[N * S]`.
        group: Number of their parameter group.
        gang: Position of this rank.
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
        self.parameter = nn.Parameter(self.own_part(self._weights))

    def own_part(self, flat: torch.Tensor) -> torch.Tensor:
        """Return this rank's part `[S]` of a flat tensor `[N * S]`."""
        length = len(flat) // self._gang.size
        return flat[self._gang.rank * length : (self._gang.rank + 1) * length]

    def start_gather(self) -> world.Pending:
        """Start to send this rank's updated part to every rank."""
        return world.start_all_gather(self.parameter.data, f"{self.bucket.name}.weights")

    def set_weights(self, flat: torch.Tensor) -> None:
        """Set the parameters to the parts of all ranks."""
        self._weights.copy_(flat)

    def unshard(self, name: str, part: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gather a state of all ranks; returns it by parameter."""
        flat = world.all_gather_rows(part, f"{self.bucket.name}.{name}") if self._gang.size > 1 else part
        views = parameter_views(flat, self.bucket.parameters.values())
        return {name: view.clone() for name, view in zip(self.bucket.parameters, views, strict=True)}

    def shard(self, whole: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return this rank's part of a state that is complete for every parameter of the bucket."""
        first = next(iter(whole.values()))
        flat = torch.zeros(len(self._weights), dtype=first.dtype, device=self._weights.device)
        views = parameter_views(flat, self.bucket.parameters.values())
        for name, view in zip(self.bucket.parameters, views, strict=True):
            view.copy_(whole[name])
        return self.own_part(flat).clone()


class ShardedGradientSync:
    """Every rank keeps and updates a part of the optimizer's state. See `GradientSync`.

    Args:
        spec: How to train.
        model: The network, on its device. Its parameters become views of the buckets.
        gang: Position of this rank.
    """

    def __init__(self, spec: Train, model: nn.Module, gang: World) -> None:
        self._gang = gang
        groups = parameter_groups(spec.optimizer, model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        # The order in which an unsharded optimizer numbers the parameters, so that both can exchange their states.
        self._group_names = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
        half = spec.compression == "fp16"
        self._shards: list[_Shard] = []
        for number, group in enumerate(groups):
            members = {names[id(parameter)]: parameter for parameter in group["params"]}
            buckets = make_buckets(f"gradient.{number}", members, spec.horovod, multiple=gang.size, half=half)
            self._shards += [_Shard(bucket, number, gang) for bucket in buckets]
            group["params"] = [shard.parameter for shard in self._shards if shard.group == number]
        self._optimizer = build_optimizer(spec.optimizer, groups)
        self._filler = BucketFiller([shard.bucket for shard in self._shards], world.start_reduce_scatter)

    def enable_sync(self) -> None:
        """See `GradientSync`."""
        self._filler.enable()

    def synchronize(self) -> None:
        """See `GradientSync`."""
        for shard, part in zip(self._shards, self._filler.wait(), strict=True):
            shard.parameter.grad = part.to(shard.parameter.dtype)

    def squared_norm(self) -> float:
        """See `GradientSync`. Covers the parts of all ranks, so each rank notices a part that is not finite."""
        parts = [shard.parameter.grad for shard in self._shards if shard.parameter.grad is not None]
        return world.all_reduce_sum([squared_norm(parts)], "gradient.squares")[0]

    def scale(self, factor: float) -> None:
        """See `GradientSync`."""
        for shard in self._shards:
            assert shard.parameter.grad is not None
            shard.parameter.grad.mul_(factor)

    def step(self, learning_rate: float) -> None:
        """See `GradientSync`."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        if self._gang.size == 1:
            return
        pending = [shard.start_gather() for shard in self._shards]
        for shard, gathered in zip(self._shards, pending, strict=True):
            shard.set_weights(gathered.wait())

    def zero_grad(self) -> None:
        """See `GradientSync`."""
        for shard in self._shards:
            shard.parameter.grad = None
            for parameter in shard.bucket.parameters.values():
                parameter.grad = None

    def reset(self) -> None:
        """See `GradientSync`."""
        self._optimizer.state.clear()

    def nonfinite_params(self) -> list[str]:
        """See `GradientSync`. Covers this rank's part of the summed gradient."""
        found = []
        for shard in self._shards:
            if shard.parameter.grad is None:
                continue
            marks = torch.zeros_like(shard.bucket.flat, dtype=torch.bool)
            shard.own_part(marks).copy_(~shard.parameter.grad.isfinite())
            views = parameter_views(marks, shard.bucket.parameters.values())
            found += [name for name, view in zip(shard.bucket.parameters, views, strict=True) if bool(view.any())]
        return found

    def state_dict(self) -> dict[str, Any]:
        """See `GradientSync`. Has the form of the unsharded optimizer's state."""
        whole: dict[str, dict[str, Any]] = {}
        for shard in self._shards:
            for key, value in self._optimizer.state.get(shard.parameter, {}).items():
                if _is_sharded(key, value):
                    parts = shard.unshard(key, value)
                else:  # a copy for each parameter: torch's optimizers count steps in place
                    parts = {name: copy.deepcopy(value) for name in shard.bucket.parameters}
                for name, part in parts.items():
                    whole.setdefault(name, {})[key] = part
        numbers = self._numbers()
        groups = []
        for group, members in zip(self._optimizer.param_groups, self._group_names, strict=True):
            options = {key: value for key, value in group.items() if key != "params"}
            groups.append({**options, "params": [numbers[name] for name in members]})
        state = {numbers[name]: whole[name] for name in numbers if name in whole}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `GradientSync`."""
        numbers = self._numbers()
        sharded: dict[int, dict[str, Any]] = {}
        for number, shard in enumerate(self._shards_by_group()):
            whole = {name: state["state"].get(numbers[name], {}) for name in shard.bucket.parameters}
            first = next(iter(whole.values()))
            sharded[number] = {
                key: shard.shard({name: values[key] for name, values in whole.items()})
                if _is_sharded(key, value)
                else copy.deepcopy(value)
                for key, value in first.items()
            }
        groups, start = [], 0
        for saved, current in zip(state["param_groups"], self._optimizer.param_groups, strict=True):
            count = len(current["params"])
            groups.append({**saved, "params": list(range(start, start + count))})
            start += count
        states = {number: values for number, values in sharded.items() if values}
        self._optimizer.load_state_dict({"state": states, "param_groups": groups})

    def _numbers(self) -> dict[str, int]:
        """Return the number of each parameter in an unsharded optimizer."""
        return {name: number for number, name in enumerate(name for group in self._group_names for name in group)}

    def _shards_by_group(self) -> list[_Shard]:
        """Return the shards in the order in which torch's optimizer numbers them."""
        return sorted(self._shards, key=lambda shard: shard.group)


def _is_sharded(key: str, value: Any) -> bool:
    """Return whether a state has an entry per element, not one per tensor."""
    return isinstance(value, torch.Tensor) and key not in _PER_TENSOR_STATE
