"""Integrated gradients of single predictions, added up for each raw column.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) are the gradient along the straight path from a
baseline to the row, times the distance: attributions of all inputs add up to the difference of the outputs
(completeness). Numbers and pixels are varied themselves; ids and tokens are varied behind the layer that reads them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from farandole.errors import ModelError
from farandole.explaining.columns import Baseline, make_baseline
from farandole.explaining.inputs import InputPoints
from farandole.explaining.model import ExplainedModel, count_rows, fill_rows, require_captum, take_rows
from farandole.preprocess.text import TextTransform
from farandole.preprocess.tokenizer import load
from farandole.shards import LabelColumn

STEPS = 32
"""Points of the path (Gauss-Legendre quadrature)."""
TOLERANCE = 0.01
"""The error, as a share of the difference of the outputs, above which a row is computed again, once, with more points:
kinks of the network along the path need them."""
REFINEMENT = 8
"""How many times as many."""
_ROUNDING = 1e-6
"""The error of float32, as a share of the outputs, which more points would not reduce."""
_VALUES_AT_ONCE = 2**21
"""Numbers of the inputs that are computed at once, over rows and points of the path."""
_MAX_ROWS = 16
"""Rows that are explained at once, always as many: a single row is filled up with copies, so that its result does not
depend on its neighbours."""


@dataclass(frozen=True)
class TokenWeight:
    """A token of a text, and its attribution."""

    token: str
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The reasons that a row has its output and not that of the baseline.

    Args:
        columns: Raw column to its attribution, in the unit of the output.
        output: The explained output of the row.
        baseline_output: That of the baseline.
        delta: The sum of all attributions minus the difference of the outputs: the error of the quadrature.
        target: What the output says something about: a class, or the label's column.
        unit: The unit of outputs and attributions.
        tokens: Column of text to the weight of each of its tokens.
        pixels: Column of images to the attribution of each pixel, float32 `[height, width]`.
    """

    columns: dict[str, float]
    output: float
    baseline_output: float
    delta: float
    target: str
    unit: str
    tokens: dict[str, list[TokenWeight]] = field(default_factory=dict)
    pixels: dict[str, np.ndarray] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain data."""
        found: dict[str, Any] = {
            "target": self.target,
            "unit": self.unit,
            "output": self.output,
            "baseline_output": self.baseline_output,
            "delta": self.delta,
            "columns": self.columns,
        }
        if self.tokens:
            found["tokens"] = {
                column: [[each.token, each.weight] for each in weights] for column, weights in self.tokens.items()
            }
        if self.pixels:
            found["pixels"] = {column: values.tolist() for column, values in self.pixels.items()}
        return found


@dataclass(frozen=True)
class Attributions:
    """Attributions of several rows, in the unit of the output.

    Args:
        groups: `{group: [rows, ...]}`, float64.
        columns: Raw column to `[rows]`, float64.
        outputs: The explained outputs, `[rows]`.
        baseline_outputs: Those of the baseline, `[rows]`: they differ where texts have different lengths.
        targets: The explained output of each row, `[rows]`.
    """

    groups: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    outputs: np.ndarray
    baseline_outputs: np.ndarray
    targets: np.ndarray

    @property
    def deltas(self) -> np.ndarray:
        """The sum of all attributions minus the difference of the outputs, `[rows]`."""
        errors: np.ndarray = self.baseline_outputs - self.outputs
        for values in self.columns.values():
            errors = errors + values
        return errors


class Explainer:
    """Explains predictions of one model.

    The cost of a row is that of `steps` forward and backward passes of the network, and `REFINEMENT` times as many more
    if its error exceeds `TOLERANCE`. Rows are computed in blocks of `block_rows`, and a single row costs as much as a
    block: so its result does not depend on the other rows.

    Args:
        model: The model.
        steps: Points of the path; more make `delta` smaller.

    Raises:
        ModelError: The network's ids cannot be followed.
        UnavailableError: Captum is not installed.
    """

    def __init__(self, model: ExplainedModel, *, steps: int = STEPS) -> None:
        require_captum()
        from captum.attr import LayerIntegratedGradients

        self.model, self.steps = model, steps
        self._inputs = InputPoints(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about layers that depend on each other, which inputs do not
            self._captum = LayerIntegratedGradients(self._inputs, self._inputs.layers)
        size = max(1, sum(group.size for group in model.schema.groups))
        self.block_rows = max(1, min(_MAX_ROWS, _VALUES_AT_ONCE // (size * steps)))
        self.baseline: Baseline = make_baseline(model.columns, model.statistics)

    def explain(self, batch: pa.RecordBatch, target: str | None = None) -> list[Explanation]:
        """Explain raw rows, in the types of training.

        Args:
            batch: The rows, as `Predictor.raw_batch` returns them.
            target: The class whose output is explained. Default: the predicted one; of two classes the positive one.

        Raises:
            DataError: A value is invalid.
            ModelError: There is no such class.
        """
        return self.explain_features(self.model.preprocessing.features(batch), target)

    def explain_features(self, features: Mapping[str, np.ndarray], target: str | None = None) -> list[Explanation]:
        """Explain rows of feature groups, `{group: [rows, ...]}`; see `explain`."""
        found = self.attribute(features, target)
        return [self._explanation(features, found, row) for row in range(len(found.outputs))]

    def attribute(
        self, features: Mapping[str, np.ndarray], target: str | None = None, *, refine: bool = True
    ) -> Attributions:
        """Return the attributions of rows; see `explain`.

        Args:
            features: `{group: [rows, ...]}`.
            target: The class whose output is explained.
            refine: Whether rows whose error exceeds `TOLERANCE` are computed again.
        """
        chosen = self._choose(features, target)
        groups, outputs, baseline_outputs = self._integrate(features, chosen, self.steps)
        sums = _sum_rows(groups, len(outputs))
        wrong = np.abs(sums - (outputs - baseline_outputs)) > np.maximum(
            TOLERANCE * np.abs(outputs - baseline_outputs), _ROUNDING * (np.abs(outputs) + np.abs(baseline_outputs))
        )
        if refine and wrong.any():
            refined, _, _ = self._integrate(take_rows(features, wrong), chosen[wrong], REFINEMENT * self.steps)
            for name, values in refined.items():
                groups[name][wrong] = values
        scale, shift = unit_scale(self.model.label)
        groups = {name: values * scale for name, values in groups.items()}
        return Attributions(
            groups,
            self.model.columns.sums(groups),
            outputs * scale + shift,
            baseline_outputs * scale + shift,
            chosen,
        )

    def _integrate(
        self, features: Mapping[str, np.ndarray], chosen: np.ndarray, steps: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return attributions, outputs and baseline outputs, in the unit of the network."""
        starts = range(0, len(chosen), self.block_rows)
        blocks = [self._block(features, chosen, start, steps) for start in starts]
        if not blocks:
            shapes = {group.name: group.shape for group in self.model.schema.groups if group.kind != "mask"}
            return {name: np.zeros((0, *shape)) for name, shape in shapes.items()}, np.zeros(0), np.zeros(0)
        groups = {name: np.concatenate([block[0][name] for block in blocks]) for name in blocks[0][0]}
        outputs, baseline_outputs = (np.concatenate([block[number] for block in blocks]) for number in (1, 2))
        return groups, outputs, baseline_outputs

    def _choose(self, features: Mapping[str, np.ndarray], target: str | None) -> np.ndarray:
        """Return the index of the output to explain, of each row."""
        label, rows = self.model.label, count_rows(features)
        if target is not None and target not in label.classes:
            known = ", ".join(label.classes) or "no classes, but numbers"
            raise ModelError(f"target: {target!r} is not predicted by this model, which knows {known}")
        if label.kind != "multiclass":
            return np.zeros(rows, np.int64)
        if target is not None:
            return np.full(rows, label.classes.index(target), np.int64)
        found: np.ndarray = self.model.outputs(features).argmax(axis=1)
        return found

    def _block(
        self, features: Mapping[str, np.ndarray], chosen: np.ndarray, start: int, steps: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return attributions, outputs and baseline outputs of a block, of the rows that are not filling."""
        block = fill_rows(take_rows(features, slice(start, start + self.block_rows)), self.block_rows)
        own = chosen[start : start + self.block_rows]
        rows = len(own)
        targets = torch.from_numpy(np.concatenate([own, np.repeat(own[-1:], self.block_rows - rows)]))
        inputs = self._inputs.tensors(block)
        baselines = self._inputs.tensors(
            {
                name: np.repeat(self.baseline.features[name], self.block_rows, 0)
                if name in self.baseline.features
                else values
                for name, values in block.items()
            }
        )
        with torch.no_grad():
            picked = targets.unsqueeze(1)
            outputs, baseline_outputs = (
                self._inputs(*each).gather(1, picked).squeeze(1).double().numpy()[:rows] for each in (inputs, baselines)
            )
        found = self._captum.attribute(
            inputs, baselines, target=targets, n_steps=steps, internal_batch_size=self.block_rows * self.steps
        )
        groups = self._inputs.collect([_only(each) for each in found], self.block_rows)
        return {name: values[:rows] for name, values in groups.items()}, outputs, baseline_outputs

    def _explanation(self, features: Mapping[str, np.ndarray], found: Attributions, row: int) -> Explanation:
        label = self.model.label
        return Explanation(
            columns={column: float(values[row]) for column, values in found.columns.items()},
            output=float(found.outputs[row]),
            baseline_output=float(found.baseline_outputs[row]),
            delta=float(found.deltas[row]),
            target=target_name(label, int(found.targets[row])),
            unit=unit_name(label),
            tokens=self._tokens(features, found, row),
            pixels=self._pixels(found, row),
        )

    def _tokens(
        self, features: Mapping[str, np.ndarray], found: Attributions, row: int
    ) -> dict[str, list[TokenWeight]]:
        weights: dict[str, list[TokenWeight]] = {}
        for part in self.model.columns.parts:
            if isinstance(part.transform, TextTransform) and part.group.kind == "tokens":
                name = part.group.name
                kept = features[f"{name}_mask"][row].astype(bool)
                texts = token_texts(part.transform, features[name][row][kept])
                values = found.groups[name][row][kept].tolist()
                weights[part.column] = [TokenWeight(*pair) for pair in zip(texts, values, strict=True)]
        return weights

    def _pixels(self, found: Attributions, row: int) -> dict[str, np.ndarray]:
        return {
            part.column: found.groups[part.group.name][row].sum(axis=2).astype(np.float32)
            for part in self.model.columns.parts
            if part.group.kind == "image"
        }


def token_texts(transform: TextTransform, ids: np.ndarray) -> list[str]:
    """Return tokens as text; those of bytes as the characters that they belong to, with spaces before words."""
    assert transform.tokenizer is not None, f"{transform.name} is not fitted"
    tokenizer = load(transform.tokenizer)
    return [tokenizer.decode([token], skip_special_tokens=False) for token in ids.tolist()]


def unit_scale(label: LabelColumn) -> tuple[float, float]:
    """Return factor and offset of outputs in the explained unit: that of the label, or of its logarithm."""
    scale = label.scale if label.kind == "regression" else None
    return (1.0, 0.0) if scale is None else (scale.deviation, scale.mean)


def unit_name(label: LabelColumn) -> str:
    """Return the unit of explained outputs."""
    if label.kind == "binary":
        return "log-odds"
    if label.kind == "multiclass":
        return "score before softmax"
    return f"log(1 + {label.column})" if label.scale is not None and label.scale.log else label.column


def target_name(label: LabelColumn, output: int) -> str:
    """Return what an output says something about."""
    if label.kind == "regression":
        return label.column
    return label.classes[-1] if label.kind == "binary" else label.classes[output]


def _sum_rows(groups: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """Return the sum of all attributions of each row, `[rows]`."""
    total = np.zeros(rows)
    for values in groups.values():
        total += values.sum(axis=tuple(range(1, values.ndim)))
    return total


def _only(values: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the attribution of a layer with one output, which Captum may wrap in a tuple."""
    return values if isinstance(values, torch.Tensor) else values[0]
