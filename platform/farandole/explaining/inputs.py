"""Inputs of a network that can be varied continuously: numbers and pixels, and what the layers that read ids return.

A network's method `id_layers()` names these layers, as those of all builders of this package do. For other networks,
they are found by watching which module receives the ids. Either way, the result is checked by experiment: an id that
changes the outputs without passing one of these layers is an error, and never silently counts as nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from farandole.errors import ModelError
from farandole.explaining.model import ExplainedModel, as_tensors
from farandole.shards import Group

_PROBE_ROWS = 16
"""Random rows: enough that no two features have the same ids."""


@dataclass(frozen=True)
class IdPoint:
    """A layer that reads ids, and whose output stands for them.

    Args:
        layer: The layer; called once for a batch.
        group: The group of ids or tokens.
        feature: The position of the feature in the group that it reads; None: it reads the whole group.
        widths: Where the output is `[rows, columns]` for a whole group: the number of columns of each feature.
    """

    layer: nn.Module
    group: str
    feature: int | None = None
    widths: tuple[int, ...] = ()

    def spread(self, values: np.ndarray, into: np.ndarray) -> None:
        """Add attributions of the output, `[rows, ...]`, to those of the ids, `[rows, ids]`."""
        if self.feature is not None:
            into[:, self.feature] += values.reshape(len(values), -1).sum(axis=1)
        elif self.widths:
            bounds = np.cumsum([0, *self.widths[:-1]])
            into += np.add.reduceat(values, bounds, axis=1)
        else:
            into += values.reshape(*into.shape, -1).sum(axis=2)


class InputPoints(nn.Module):
    """A network as a function of tensors in a fixed order, with a layer for each input that attributions belong to.

    Args:
        model: The model.

    Raises:
        ModelError: The ids of a group reach the outputs in a way that cannot be followed.
    """

    def __init__(self, model: ExplainedModel) -> None:
        super().__init__()
        self.network = model.network
        self.groups = model.schema.groups
        self.names = tuple(group.name for group in self.groups)
        points = _find_id_points(model)
        of_ids = {point.group for point in points}
        dense = [group.name for group in self.groups if _is_dense(group) and group.name not in of_ids]
        # The prefix permits a group of any name; `Identity` is a place for Captum's hooks.
        self.dense = nn.ModuleDict({f"group_{name}": nn.Identity() for name in dense})
        self.points = points

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Map one tensor for each group, in the order of the schema, to outputs `[rows, outputs]`."""
        groups = dict(zip(self.names, tensors, strict=True))
        for name, layer in self.dense.items():
            name = name.removeprefix("group_")
            groups[name] = layer(groups[name])
        outputs: torch.Tensor = self.network(**groups)
        return outputs

    @property
    def layers(self) -> list[nn.Module]:
        """The layers that attributions belong to: first those of dense groups, then those of ids."""
        return [*self.dense.values(), *(point.layer for point in self.points)]

    def tensors(self, features: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
        """Return features in the order and in the types that `forward` takes: whole numbers become float32."""
        tensors = as_tensors(features)
        return tuple(self._convert(group, tensors[group.name]) for group in self.groups)

    def collect(self, attributions: list[torch.Tensor], rows: int) -> dict[str, np.ndarray]:
        """Return attributions of the layers as `{group: [rows, ...]}`, in the shape of the group."""
        arrays = [values.detach().numpy().astype(np.float64) for values in attributions]
        found = {name.removeprefix("group_"): arrays.pop(0) for name in self.dense}
        for group in self.groups:
            if group.name not in found and group.kind != "mask":
                found[group.name] = np.zeros((rows, *group.shape))
        for point, values in zip(self.points, arrays, strict=True):
            point.spread(values, found[point.group])
        return found

    def _convert(self, group: Group, tensor: torch.Tensor) -> torch.Tensor:
        if group.kind == "mask":
            return tensor.bool()
        if f"group_{group.name}" not in self.dense or tensor.is_floating_point():
            return tensor
        return tensor.float()


def _is_dense(group: Group) -> bool:
    return group.kind in ("numbers", "image", "tensor")


def _find_id_points(model: ExplainedModel) -> list[IdPoint]:
    """Return the layers that read ids, after checking that nothing else does."""
    groups = [group for group in model.schema.groups if _may_be_ids(group)]
    if not groups:
        return []
    probe = _probe(model)
    named = getattr(model.network, "id_layers", None)
    declared = named() if callable(named) else None
    points = _declared(groups, declared) if declared is not None else _watch(model, groups, probe)
    _check_calls(model, points, probe)
    for group in groups:
        _check_group(model, group, [point for point in points if point.group == group.name], probe)
    return points


def _may_be_ids(group: Group) -> bool:
    """Return whether a network may look the group's values up: ids, tokens, and tensors of whole numbers."""
    return group.kind in ("ids", "tokens") or (group.kind == "tensor" and group.dtype.kind in "iu")


def _probe(model: ExplainedModel) -> dict[str, np.ndarray]:
    """Return random rows that any network accepts."""
    random = np.random.default_rng(0)
    rows: dict[str, np.ndarray] = {}
    for group in model.schema.groups:
        shape = (_PROBE_ROWS, *group.shape)
        if group.kind == "mask":
            rows[group.name] = np.ones(shape, group.dtype)
        elif group.dtype.kind == "f":
            rows[group.name] = random.normal(size=shape).astype(group.dtype)
        else:
            counts = group.cardinalities if group.kind in ("ids", "tokens") else (256 if group.kind == "image" else 2,)
            rows[group.name] = random.integers(0, np.array(counts), shape).astype(group.dtype)
    return rows


def _declared(groups: list[Group], layers: Mapping[str, nn.Module]) -> list[IdPoint]:
    """Return the layers that the network names."""
    points = []
    for group in groups:
        if group.name in layers:
            layer = layers[group.name]
            widths = getattr(layer, "widths", ())
            points.append(IdPoint(layer, group.name, None, tuple(int(width) for width in widths)))
    return points


def _watch(model: ExplainedModel, groups: list[Group], probe: dict[str, np.ndarray]) -> list[IdPoint]:
    """Return the innermost modules that receive the ids of a feature or of a group, up to a constant offset."""
    points: list[IdPoint] = []
    with _watched(model.network) as calls:
        _run(model, probe)
    for module, inputs, output in calls:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            continue
        for ids in (value.numpy() for value in inputs if isinstance(value, torch.Tensor) and _are_ids(value)):
            point = _match(module, ids, output, groups, probe)
            if point is not None and not any(each.layer is module for each in points):
                points.append(point)
    # Of nested modules that receive the same ids, the innermost one stands for them.
    return [point for point in points if not _has_inner(point, points)]


def _has_inner(point: IdPoint, points: list[IdPoint]) -> bool:
    children = {id(child) for child in point.layer.modules() if child is not point.layer}
    return any(id(other.layer) in children for other in points)


def _are_ids(value: torch.Tensor) -> bool:
    return value.dtype in (torch.int32, torch.int64) and value.ndim > 0


def _match(
    module: nn.Module, values: np.ndarray, output: torch.Tensor, groups: list[Group], probe: Mapping[str, np.ndarray]
) -> IdPoint | None:
    """Return what a module reads, if its input is that of a group or of one of its features."""
    for group in groups:
        ids = probe[group.name]
        if values.shape == ids.shape and output.shape[: values.ndim] == values.shape and output.ndim > values.ndim:
            offsets = values - ids
            if (offsets == offsets[:1]).all():
                return IdPoint(module, group.name)
        if group.kind != "ids" or values.size != _PROBE_ROWS:
            continue
        for feature in range(ids.shape[1]):
            offsets = values.reshape(-1) - ids[:, feature]
            if (offsets == offsets[0]).all() and len(output) == _PROBE_ROWS:
                return IdPoint(module, group.name, feature)
    return None


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[tuple[nn.Module, tuple[object, ...], object]]]:
    """Record the calls of all modules of a network below it: module, inputs and output."""
    calls: list[tuple[nn.Module, tuple[object, ...], object]] = []

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        calls.append((module, inputs, output))

    handles = [module.register_forward_hook(note) for module in network.modules() if module is not network]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _run(model: ExplainedModel, probe: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        found: np.ndarray = model.forward(probe).numpy()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"model.builder: {model.builder}: raised {text} for random rows, by which explanations find the layers that"
            " read ids; let the network accept every value of the schema"
        ) from error
    return found


def _check_calls(model: ExplainedModel, points: list[IdPoint], probe: Mapping[str, np.ndarray]) -> None:
    """Check that each layer is called once for a batch: otherwise its output does not stand for its ids."""
    with _watched(model.network) as calls:
        _run(model, probe)
    for point in points:
        times = sum(module is point.layer for module, _, _ in calls)
        if times != 1:
            raise ModelError(
                f"model.builder: {model.builder}: the layer that reads the ids of {point.group} is called {times} times"
                " for a batch, and explanations need exactly one call; give each feature its own embedding, or let"
                " the network have a method id_layers() that returns {group: layer}"
            )


def _check_group(model: ExplainedModel, group: Group, points: list[IdPoint], probe: dict[str, np.ndarray]) -> None:
    """Check that ids have no influence but by the layers that read them.

    Those return what they did for other ids: if the outputs change all the same, the ids were used elsewhere too.
    """
    if group.kind == "tensor" and not points:
        return  # numbers, not ids
    with _watched(model.network) as calls:
        usual = _run(model, probe)
    held = [(point.layer, next(output for module, _, output in calls if module is point.layer)) for point in points]
    for feature in range(len(group.features)) if group.kind == "ids" else (slice(None),):
        changed = {**probe, group.name: probe[group.name].copy()}
        values = changed[group.name]
        values[:, feature] = np.roll(values[:, feature], 1, axis=0)
        with _held(held):
            found = _run(model, changed)
        if not np.array_equal(usual, found):
            name = group.features[feature if isinstance(feature, int) else 0]
            raise ModelError(
                f"model.builder: {model.builder}: the ids of {name} (group {group.name}) reach the outputs without a"
                " layer such as nn.Embedding that explanations could follow; let the network have a method"
                " id_layers() that returns {group: layer}, where the layer maps ids [rows, features] to"
                " [rows, features, size], or has `widths`, the columns of each feature in its output"
            )


@contextmanager
def _held(outputs: list[tuple[nn.Module, object]]) -> Iterator[None]:
    """Let layers return given outputs."""
    handles = [
        layer.register_forward_hook(lambda module, inputs, found, output=output: output) for layer, output in outputs
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
