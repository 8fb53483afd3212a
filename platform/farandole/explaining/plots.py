"""Plots of an explanation."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farandole.explaining.report import Report, ShownRow

matplotlib.use("Agg")

_MAX_BARS = 25
_MAX_CURVES = 12
_MAX_LABEL = 24
_MAX_TOKENS = 40
_GRID_COLUMNS = 3


def plot_report(report: Report) -> dict[str, bytes]:
    """Return the plots of an explanation: file name to PNG."""
    columns = report.document["columns"]
    figures: dict[str, Figure] = {}
    if any(entry.get("permutation") for entry in columns.values()):
        figures["permutation_importance"] = _plot_permutation(report.document)
    if any(entry.get("attribution") for entry in columns.values()):
        figures["attributions"] = _plot_attributions(report.document)
    curves = {column: entry["dependence"] for column, entry in columns.items() if entry.get("dependence")}
    if curves:
        figures["partial_dependence"] = _plot_dependence(curves)
    if report.document["activations"]:
        figures["activations"] = _plot_activations(report.document["activations"])
    for column in dict.fromkeys(column for row in report.rows for column in row.pixels):
        figures[f"saliency_{column}"] = _plot_saliency(report.rows, column)
    for column in dict.fromkeys(column for row in report.rows for column in row.explanation.tokens):
        figures[f"tokens_{column}"] = _plot_tokens(report.rows, column)
    return {f"{name}.png": _png(figure) for name, figure in figures.items()}


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _short(name: str) -> str:
    shown = name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"
    return shown.replace("$", r"\$")  # matplotlib would read formulas between dollars


def _bars(values: dict[str, float], errors: dict[str, float] | None = None) -> tuple[Figure, Axes]:
    """Return a figure with a horizontal bar for each of the largest values."""
    names = sorted(values, key=lambda name: -abs(values[name]))[:_MAX_BARS][::-1]
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    spread = None if errors is None else [errors[name] for name in names]
    axes.barh([_short(name) for name in names], [values[name] for name in names], xerr=spread, ecolor="grey")
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    return figure, axes


def _plot_permutation(document: dict[str, Any]) -> Figure:
    found = {column: entry["permutation"] for column, entry in document["columns"].items() if entry.get("permutation")}
    figure, axes = _bars(
        {column: entry["mean"] for column, entry in found.items()},
        {column: entry["deviation"] for column, entry in found.items()},
    )
    axes.set(xlabel=f"loss of {document['metric']} where the column is shuffled", title="Permutation importance")
    return figure


def _plot_attributions(document: dict[str, Any]) -> Figure:
    found = {column: entry["attribution"] for column, entry in document["columns"].items() if entry.get("attribution")}
    figure, axes = _bars({column: entry["mean_size"] for column, entry in found.items()})
    axes.set(xlabel=f"mean size, {document['unit']}", title="Integrated gradients")
    return figure


def _plot_dependence(curves: dict[str, dict[str, Any]]) -> Figure:
    shown = dict(list(curves.items())[:_MAX_CURVES])
    rows = -(-len(shown) // _GRID_COLUMNS)
    figure = Figure(figsize=(10, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, _GRID_COLUMNS, squeeze=False).flat
    for axes, (column, entry) in zip(grid, shown.items(), strict=False):
        points = entry["points"]
        is_number = entry["kind"] == "number"
        places = [point["value"] for point in points] if is_number else list(range(len(points)))
        names = [name for name in points[0] if name != "value"]
        for name in names:
            axes.plot(places, [point[name]["mean"] for point in points], marker="o", markersize=3, label=_short(name))
            if len(names) == 1:
                low, high = ([point[name][edge] for point in points] for edge in ("p10", "p90"))
                axes.fill_between(places, low, high, alpha=0.2)
        if not is_number:
            labels = [_short(str(point["value"])[:10]) for point in points]
            axes.set_xticks(places, labels, rotation=90, fontsize=7)
        if len(names) > 1:
            axes.legend(fontsize=6)
        axes.set_title(_short(column), fontsize=10)
        axes.grid(alpha=0.3)
    for axes in list(figure.axes)[len(shown) :]:
        axes.set_visible(False)
    return figure


def _plot_activations(layers: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 1.4 + 0.26 * len(layers)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(layers))[::-1]
    for place, layer in zip(places, layers, strict=True):
        left.plot([layer["p01"], layer["p99"]], [place, place], color="grey", linewidth=1)
        left.plot([layer["p25"], layer["p75"]], [place, place], linewidth=5, color="tab:blue")
        left.plot([layer["p50"]], [place], marker="|", color="black")
    left.set_yticks(places, [_short(layer["layer"]) for layer in layers], fontsize=7)
    left.set(title="Activations, 1% to 99%")
    right.barh(places, [layer["dead"] for layer in layers])
    right.set(title="Share of dead units", xlim=(0, 1))
    return figure


def _plot_saliency(rows: list[ShownRow], column: str) -> Figure:
    figure = Figure(figsize=(1.6 * len(rows) + 0.4, 3.6), layout="constrained")
    grid = figure.subplots(2, len(rows), squeeze=False)
    for (top, bottom), row in zip(grid.T, rows, strict=True):
        picture, attribution = row.pixels[column], row.explanation.pixels[column]
        top.imshow(picture.squeeze(), cmap="gray" if picture.shape[2] == 1 else None, vmin=0, vmax=255)
        limit = float(np.abs(attribution).max()) or 1.0
        bottom.imshow(attribution, cmap="RdBu_r", vmin=-limit, vmax=limit)
        top.set_title(_short(row.explanation.target), fontsize=8)
        for axes in (top, bottom):
            axes.set(xticks=[], yticks=[])
    return figure


def _plot_tokens(rows: list[ShownRow], column: str) -> Figure:
    """Plot one bar for each token of each text."""
    shown = [row for row in rows if row.explanation.tokens[column]]
    heights = [max(3, min(_MAX_TOKENS, len(row.explanation.tokens[column]))) for row in shown]
    figure = Figure(figsize=(7, 1 + sum(0.2 * height + 0.4 for height in heights)), layout="constrained")
    grid = figure.subplots(max(1, len(shown)), 1, squeeze=False, height_ratios=heights or [1]).flat
    for axes, row in zip(grid, shown, strict=False):
        tokens = row.explanation.tokens[column][:_MAX_TOKENS]
        places = np.arange(len(tokens))[::-1]
        weights = [token.weight for token in tokens]
        axes.barh(places, weights, color=["tab:red" if weight < 0 else "tab:blue" for weight in weights])
        axes.set_yticks(places, [_short(token.token) for token in tokens], fontsize=7)
        axes.set_title(f"{_short(row.explanation.target)}: {row.explanation.output:.3g}", fontsize=8)
    return figure
