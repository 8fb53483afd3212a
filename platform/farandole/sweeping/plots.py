"""Plots of a sweep."""

from __future__ import annotations

import json
import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from farandole.spec import Dimension
from farandole.sweeping.trial import Trial

_MAX_LABELS = 12


def parallel_coordinates(trials: list[Trial], space: dict[str, Dimension], metric: str, direction: str) -> Figure:
    """Draw each trial as a line through its values to its metric; pruned trials are dashed.

    Args:
        trials: The trials that have a value.
        space: The fields and their dimensions.
        metric: The metric's name.
        direction: `minimize` or `maximize`: the best lines are darkest, and drawn last.
    """
    figure = Figure(figsize=(2.2 * (len(space) + 1) + 1.5, 4.6), layout="constrained")
    axes = figure.subplots()
    measured = np.array([float(trial.value or 0.0) for trial in trials])
    low, high = _padded(measured)
    colours = ScalarMappable(Normalize(low, high), "viridis_r" if direction == "maximize" else "viridis")
    order = np.argsort(measured if direction == "maximize" else -measured)
    for index in order:
        trial = trials[index]
        heights = [_height(trial.values[field], dimension) for field, dimension in space.items()]
        heights.append((measured[index] - low) / (high - low))
        style = "-" if trial.state == "complete" else "--"
        axes.plot(range(len(heights)), heights, style, color=colours.to_rgba(measured[index]), linewidth=1.6)
    for position, dimension in enumerate(space.values()):
        _draw_axis(axes, position, _ticks(dimension))
    _draw_axis(axes, len(space), [(share, f"{low + share * (high - low):.4g}") for share in (0.0, 0.5, 1.0)])
    axes.set(xlim=(-0.25, len(space) + 0.45), ylim=(-0.05, 1.05), yticks=[])
    axes.set_xticks(range(len(space) + 1), [*space, f"validation {metric}"], rotation=12)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    figure.colorbar(colours, ax=axes, label=metric)
    return figure


def importances(shares: dict[str, float], metric: str) -> Figure:
    """Draw each field's share of the variance as a bar."""
    figure = Figure(figsize=(7, 1.2 + 0.45 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color="#3b6ea5")
    axes.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=3)
    axes.set(xlim=(0, 1.1), xlabel=f"share of the variance of {metric} (fANOVA)", title="Importance of the fields")
    return figure


def _draw_axis(axes: Any, position: int, ticks: list[tuple[float, str]]) -> None:
    axes.axvline(position, color="black", linewidth=0.8)
    for height, label in ticks:
        axes.text(
            position + 0.03, height, label, fontsize=8, va="center", bbox={"color": "white", "alpha": 0.7, "pad": 0.5}
        )


def _height(value: Any, dimension: Dimension) -> float:
    """Return the position of a value on its axis, from 0 to 1."""
    if dimension.choices is not None:
        labels = [json.dumps(choice) for choice in dimension.choices]
        return labels.index(json.dumps(value)) / max(len(labels) - 1, 1)
    low, high = _ends(dimension)
    if low == high:
        return 0.5
    if dimension.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return float((value - low) / (high - low))


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.choices is not None:
        step = math.ceil(len(dimension.choices) / _MAX_LABELS)
        return [(_height(choice, dimension), json.dumps(choice)) for choice in dimension.choices[::step]]
    low, high = _ends(dimension)
    middle = math.sqrt(low * high) if dimension.log else (low + high) / 2
    return [(_height(value, dimension), f"{value:.3g}") for value in sorted({low, middle, high})]


def _ends(dimension: Dimension) -> tuple[float, float]:
    assert dimension.low is not None
    assert dimension.high is not None
    return float(dimension.low), float(dimension.high)


def _padded(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


matplotlib.use("Agg")
