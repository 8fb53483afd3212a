"""The inside of a network: the activations of its layers, and what passes through them.

Shapes: B rows, U units. The units of a layer are its channels (of pictures and series) or its numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from farandole.explaining.inputs import InputPoints
from farandole.explaining.model import ExplainedModel, count_rows, fill_rows, take_rows

_PERCENTILES = (1, 25, 50, 75, 99)
_TOP_UNITS = 5
_ATTRIBUTION_ROWS = 32
_STEPS = 16
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)

_UNCHANGED = (nn.Dropout, nn.Identity, nn.Flatten)
"""Layers that return what they receive."""


def summarise_activations(model: ExplainedModel, features: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Summarise what each layer returns for a sample of rows.

    Returns:
        For each layer, in the order of their calls: `layer`, `kind`, `units`, the share of units that are `dead` (they
        return the same number for every row), `zeros` (the share of numbers that are 0), `mean`, `deviation`, and
        percentiles `p01` ... `p99`.
    """
    row_axes = _row_axes(model, features)
    found = []
    for name, module, output in _outputs(model, features):
        units = _units(module, output, row_axes.get(name, 0)).numpy()
        if not units.size:
            continue
        constant = units.max(axis=(0, 1)) == units.min(axis=(0, 1))
        percentiles = np.percentile(units, _PERCENTILES)
        found.append(
            {
                "layer": name,
                "kind": type(module).__name__,
                "units": units.shape[2],
                "dead": float(constant.mean()),
                "zeros": float((units == 0).mean()),
                "mean": float(units.mean()),
                "deviation": float(units.std()),
                **{f"p{number:02d}": float(value) for number, value in zip(_PERCENTILES, percentiles, strict=True)},
            }
        )
    return found


def attribute_layers(
    model: ExplainedModel, features: dict[str, np.ndarray], baseline: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Attribute the difference to the baseline's output to the units of each layer with weights.

    Integrated gradients along the straight path between the layer's outputs for the baseline and for the row. Where all
    information passes through a layer, its `share` of the difference is 1.

    Args:
        model: The model.
        features: A sample of rows.
        baseline: `{group: [1, ...]}`.

    Returns:
        For each layer: `layer`, `kind`, `units`, `share`, and the `top` units, with their mean size.
    """
    from captum.attr import LayerIntegratedGradients

    rows = min(_ATTRIBUTION_ROWS, count_rows(features))
    block = fill_rows(take_rows(features, slice(0, rows)), rows)
    inputs = InputPoints(model)
    start = inputs.tensors({**block, **{name: np.repeat(values, rows, 0) for name, values in baseline.items()}})
    end = inputs.tensors(block)
    with torch.no_grad():
        outputs, starts = inputs(*end), inputs(*start)
    targets = outputs.argmax(1)
    difference = float((outputs - starts).gather(1, targets.unsqueeze(1)).abs().mean())
    row_axes = _row_axes(model, features)
    calls = [name for name, _, _ in _outputs(model, block, tuples=False)]
    found = []
    for name, module in model.network.named_modules():
        # Layers whose output's first axis is not that of the rows, or that are called twice, have no such path.
        if calls.count(name) != 1 or row_axes.get(name, 0) or not _has_weights(module):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = LayerIntegratedGradients(inputs, module).attribute(
                end, start, target=targets, n_steps=_STEPS, internal_batch_size=rows * _STEPS
            )
        units = _units(module, values, 0).sum(1).double().numpy()  # [B, U]
        sizes = np.abs(units).mean(axis=0)
        found.append(
            {
                "layer": name,
                "kind": type(module).__name__,
                "units": len(sizes),
                "share": float(np.abs(units.sum(axis=1)).mean()) / difference if difference else 0.0,
                "top": [[int(unit), float(sizes[unit])] for unit in np.argsort(-sizes)[:_TOP_UNITS]],
            }
        )
    return found


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _outputs(
    model: ExplainedModel, features: dict[str, np.ndarray], *, tuples: bool = True
) -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """Yield name, module and output of each call of a module without children that returns float tensors.

    Args:
        model: The model.
        features: The rows.
        tuples: Whether those that return several tensors count, as recurrent cells do, by the first of them.
    """
    calls: list[tuple[str, nn.Module, torch.Tensor]] = []
    with _recorded(model.network, calls, tuples):
        model.forward(features)
    yield from calls


def _row_axes(model: ExplainedModel, features: dict[str, np.ndarray]) -> dict[str, int]:
    """Return which axis of each layer's output is that of the rows: the one that grows with their number.

    It is not the first one in a network whose members share a batch.
    """
    shapes = [
        {name: output.shape for name, _, output in _outputs(model, fill_rows(take_rows(features, slice(0, 1)), rows))}
        for rows in (2, 3)
    ]
    axes = {}
    for name, shape in shapes[0].items():
        other = shapes[1].get(name, shape)
        differing = [axis for axis in range(len(shape)) if len(other) == len(shape) and other[axis] != shape[axis]]
        axes[name] = differing[0] if differing else 0
    return axes


def _units(module: nn.Module, output: torch.Tensor, row_axis: int) -> torch.Tensor:
    """Return the output of a layer as `[B, positions, U]`.

    The units are the channels of convolutions and of what follows them, the last axis of series, and all numbers of a
    row otherwise, also those of several members.
    """
    rows = output.movedim(row_axis, 0)
    if row_axis or rows.ndim == 2:
        return rows.reshape(len(rows), 1, -1)
    channel_axis = 1 if rows.ndim == 4 or isinstance(module, _CHANNELS_FIRST) else -1
    return rows.movedim(channel_axis, -1).reshape(len(rows), -1, rows.shape[channel_axis])


@contextmanager
def _recorded(network: nn.Module, calls: list[tuple[str, nn.Module, torch.Tensor]], tuples: bool) -> Iterator[None]:
    def note(name: str, module: nn.Module, output: Any) -> None:
        first = output[0] if tuples and isinstance(output, tuple) and output else output
        if isinstance(first, torch.Tensor) and first.is_floating_point() and first.ndim > 1:
            calls.append((name, module, first.detach()))

    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in network.named_modules()
        if name and not any(True for _ in module.children()) and not isinstance(module, _UNCHANGED)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
