"""A small ensemble of networks over numbers and categories: the default for tables.

It combines two published designs; what it takes from each was chosen by measurement (docs/decisions/0032).

- RealMLP (Holzmüller et al. 2024, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data",
  arXiv 2407.04491): one-hot columns for categories of few values, a learned scale of each input, the NTK
  parametrization, a higher learning rate of the scales.
- TabM (Gorishniy et al. 2024, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling", arXiv
  2410.24210): piecewise linear encodings of numbers, and K networks that share their weight matrices and differ by
  vectors. Each is trained by its own loss; the prediction is their mean.

Shapes: B rows, K members, F numbers, T intervals, D inputs of a layer, H its outputs, O outputs of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from farandole.errors import ModelError
from farandole.models.layers import drop_activations, scale_pixels
from farandole.shards import Group, Schema

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
_MAX_ONE_HOT = 9
"""Categories with at most this many ids become one-hot columns (RealMLP, section 3); ids include unknown, missing."""
_EMBEDDING_SIZE = 8
"""Length of the embedding of other categories (RealMLP, section 3)."""
_MAX_ENCODED = 512
"""A group of numbers has at most this many encoded columns: of many numbers, each has fewer intervals, or none. With
more columns, the first layer learns the training rows by heart."""
_MIN_INTERVALS = 2
_SCALE_RATE = 6.0
"""Factor of the learning rate of the inputs' scales (RealMLP, section 3)."""


class Tabular(nn.Module):
    """An ensemble over numbers, ids, and flattened images and tensors.

    While training, `forward` returns the outputs of each member, `[B, K, O]`, so that each has its own loss. Otherwise
    it returns those of the mean prediction, `[B, O]`.

    Args:
        schema: The columns of the dataset.
        members: Number of members, K.
        width: Size of each hidden layer.
        depth: Number of hidden layers.
        dropout: Share of hidden activations that training drops.
        activation: One of `relu`, `silu`, `gelu`.
        intervals: Maximum number of intervals of the encoding of a number; 0: no encoding.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        members: int,
        width: int,
        depth: int,
        dropout: float,
        activation: str,
        intervals: int,
    ) -> None:
        super().__init__()
        self.kind, self.members = schema.target.kind, members
        self.encoders = nn.ModuleDict(
            {f"group_{group.name}": _encoder(group, intervals) for group in schema.groups}  # any name is permitted
        )
        inputs = sum(int(encoder.width) for encoder in self.encoders.values())  # type: ignore[arg-type, misc]
        self.scale = nn.Parameter(torch.full((inputs,), 1 / _SCALE_RATE))
        sizes = [inputs] + [width] * depth
        self.layers = nn.ModuleList(
            SharedLinear(members, size, width, shares_inputs=number == 0) for number, size in enumerate(sizes[:-1])
        )
        self.head = MemberLinear(members, sizes[-1], schema.target.num_outputs)
        self.activations = nn.ModuleList(_ACTIVATIONS[activation]() for _ in range(depth))
        self.dropout = dropout

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map numbers `[B, F]`, ids `[B, N]`, images and tensors `[B, …]` to logits or values."""
        parts = [encoder(groups[name.removeprefix("group_")]) for name, encoder in self.encoders.items()]
        # A parameter that is stored as p and used as c * p learns c times as fast with Adam, for which the size of a
        # gradient does not matter. So the optimizer needs no groups of parameters.
        hidden = torch.cat(parts, dim=1) * (self.scale * _SCALE_RATE)
        for layer, activation in zip(self.layers, self.activations, strict=True):
            hidden = activation(layer(hidden))
            if self.training and self.dropout:
                hidden = drop_activations(hidden, self.dropout)
        outputs: torch.Tensor = self.head(hidden)
        return outputs.transpose(0, 1) if self.training else self._mean(outputs)

    def _mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the mean value, or the logits of the mean probability (TabM, section 3.3)."""
        if self.kind == "regression":
            return outputs.mean(0)
        if self.kind == "multiclass":
            return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))
        return F.logsigmoid(outputs).logsumexp(0) - F.logsigmoid(-outputs).logsumexp(0)

    def id_layers(self) -> dict[str, nn.Module]:
        """Return the layer that reads each group of ids, for explanations."""
        layers = ((name.removeprefix("group_"), encoder) for name, encoder in self.encoders.items())
        return {name: encoder for name, encoder in layers if isinstance(encoder, Ids)}

    def initialize_inputs(self, **groups: torch.Tensor) -> None:
        """Fit the encodings of numbers to a sample of rows."""
        for name, encoder in self.encoders.items():
            if isinstance(encoder, Numbers):
                encoder.initialize(groups[name.removeprefix("group_")])

    def initialize_output(self, bias: torch.Tensor) -> None:
        """Start the outputs of all members at `bias`, `[O]`: the priors of the classes, or the label's mean."""
        with torch.no_grad():
            self.head.bias.copy_(bias.to(self.head.bias).expand(self.head.members, -1).flatten())


class SharedLinear(nn.Module):
    """A linear map of K members that share a matrix: `s_k * ((x * r_k) @ W) / sqrt(D) + b_k` (TabM, equation 4).

    In the first layer, where all members have the same inputs, there are no vectors `r`, and `s` begins as random signs
    instead. Then one product serves all members; TabM's random `r` cost K of them and were not better (0032). In the
    other layers the vectors are multiplied into the matrix, which costs K·D·H instead of K·B·(D + H).

    The factor `1 / sqrt(D)` with weights of variance 1 is the NTK parametrization (RealMLP, section 3). Vectors are
    stored flat, so that they are exempt from weight decay as all vectors are.

    Args:
        members: Number of members, K.
        inputs: D.
        outputs: H.
        shares_inputs: Whether all members have the same inputs, `[B, D]`.
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, shares_inputs: bool) -> None:
        super().__init__()
        self.members, self.inputs, self.outputs = members, inputs, outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.input_scale = None if shares_inputs else nn.Parameter(torch.ones(members * inputs))
        signs = torch.randint(0, 2, (members * outputs,)) * 2.0 - 1.0
        self.output_scale = nn.Parameter(signs if shares_inputs else torch.ones(members * outputs))
        self.bias = nn.Parameter(torch.zeros(members * outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, D]`, the same for all members, or `[K, B, D]` to `[K, B, H]`."""
        weight = self.weight * (1 / math.sqrt(self.inputs))
        output_scale = self.output_scale.view(self.members, 1, self.outputs)
        if self.input_scale is None:
            return torch.addcmul(self.bias.view(self.members, 1, self.outputs), x @ weight, output_scale)
        return member_maps(x, weight * self.input_scale.view(self.members, self.inputs, 1) * output_scale, self.bias)


class MemberLinear(nn.Module):
    """A linear map of K members, each with its own matrix, which begins as zeros: all predict the bias.

    Args:
        members: Number of members, K.
        inputs: D.
        outputs: O.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.members = members
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members * outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, D]` or `[K, B, D]` to `[K, B, O]`."""
        return member_maps(x, self.weight * (1 / math.sqrt(self.weight.shape[1])), self.bias)


class Numbers(nn.Module):
    """Numbers and their piecewise linear encodings (Gorishniy et al. 2022, arXiv 2203.05556, equation 1).

    The values of a feature are cut into intervals with about equally many rows. Entry t of its encoding grows from 0 to
    1 while the number passes through interval t. A feature with few values has an interval between each two of them,
    and entries that are always 0.

    Args:
        size: F.
        intervals: Maximum number of intervals of a feature, T.
    """

    def __init__(self, size: int, intervals: int) -> None:
        super().__init__()
        self.width = size * (intervals + 1)
        self.slopes: torch.Tensor
        self.offsets: torch.Tensor
        self.register_buffer("slopes", torch.zeros(size, intervals))
        self.register_buffer("offsets", torch.zeros(size, intervals))

    def initialize(self, x: torch.Tensor) -> None:
        """Choose the intervals of each feature for a sample of rows, `[B, F]`."""
        intervals = self.slopes.shape[1]
        self.slopes.zero_()
        self.offsets.zero_()
        for feature, values in enumerate(x.double().unbind(1)):
            bounds = _interval_bounds(values, intervals)
            slopes = 1 / (bounds[1:] - bounds[:-1])
            self.slopes[feature, : len(slopes)] = slopes
            self.offsets[feature, : len(slopes)] = -bounds[:-1] * slopes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, F]` to `[B, F * (T + 1)]`."""
        encoded = torch.addcmul(self.offsets, x.unsqueeze(2), self.slopes).clamp(0, 1)
        return torch.cat([encoded.flatten(1), x], dim=1)


class Plain(nn.Module):
    """Numbers, images and tensors as they are, flattened."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.width, self.is_image = group.size, group.kind == "image"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, …]` to `[B, D]`."""
        return (scale_pixels(x) if self.is_image else x).flatten(1).float()


class Ids(nn.Module):
    """Categories as one-hot columns if they have few values, otherwise as embeddings."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.cardinalities = group.cardinalities
        self.tables = nn.ModuleDict(
            {
                str(column): nn.Embedding(count, _EMBEDDING_SIZE)
                for column, count in enumerate(group.cardinalities)
                if count > _MAX_ONE_HOT
            }
        )
        self.widths = tuple(count if count <= _MAX_ONE_HOT else _EMBEDDING_SIZE for count in group.cardinalities)
        self.width = sum(self.widths)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map int32 ids `[B, N]` to float32 `[B, D]`."""
        columns = []
        for column, count in enumerate(self.cardinalities):
            column_ids = ids[:, column]
            if str(column) in self.tables:
                columns.append(self.tables[str(column)](column_ids))
            else:
                columns.append((column_ids.unsqueeze(1) == torch.arange(count, device=ids.device)).float())
        return torch.cat(columns, dim=1)


def member_maps(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Apply the map of each member: `[B, D]` or `[K, B, D]` times `[K, D, H]` plus `[K * H]` is `[K, B, H]`."""
    members, _, outputs = weight.shape
    if x.ndim == 2:  # a network without hidden layers
        x = x.expand(members, *x.shape)
    return torch.baddbmm(bias.view(members, 1, outputs), x, weight)


def _interval_bounds(values: torch.Tensor, intervals: int) -> torch.Tensor:
    """Return the bounds of at most this many intervals, in ascending order.

    A frequent value counts as one interval's share of the rows at most: of a column that is mostly 0, most quantiles of
    all rows would be 0 too and leave few intervals for the other values. Nothing moves that share to them: with more
    intervals, each would hold too few rows (docs/decisions/0032).
    """
    distinct: torch.Tensor
    distinct, counts = torch.unique(values, return_counts=True)
    if len(distinct) <= intervals + 1:
        return distinct
    weights = counts.double().clamp(max=len(values) / intervals)
    places = weights.cumsum(0) - weights / 2
    wanted = torch.linspace(float(places[0]), float(places[-1]), intervals + 1, dtype=torch.float64)
    bounds: torch.Tensor = torch.unique(distinct[torch.searchsorted(places, wanted).clamp(max=len(distinct) - 1)])
    return bounds


def _encoder(group: Group, intervals: int) -> nn.Module:
    if group.kind == "ids":
        return Ids(group)
    if group.kind == "numbers" and (fitting := min(intervals, _MAX_ENCODED // group.size)) >= _MIN_INTERVALS:
        return Numbers(group.size, fitting)
    return Plain(group)


def build(
    schema: Schema,
    *,
    members: int = 8,
    width: int = 128,
    depth: int = 2,
    dropout: float = 0.1,
    activation: str = "relu",
    intervals: int = 16,
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset.
        members: Number of networks in the ensemble, which share most of their weights.
        width: Size of each hidden layer.
        depth: Number of hidden layers.
        dropout: Share of hidden activations that training drops.
        activation: Activation of each hidden layer: `relu`, `silu` or `gelu`.
        intervals: Maximum number of intervals of the piecewise linear encoding of a number; 0: no encoding.

    Raises:
        ModelError: The dataset has texts, or an option is wrong.
    """
    for group in schema.groups:
        if group.kind in ("tokens", "mask"):
            raise ModelError(
                f"model.builder: farandole.models.tabular reads numbers, ids, images and tensors, but {group.name}"
                f" holds {group.kind}; use farandole.models.text or farandole.models.fusion, or remove the feature"
            )
    for name, value in (("members", members), ("width", width)):
        if value < 1:
            raise ModelError(f"model.options.{name}: {value}; use at least 1")
    if not 0 <= dropout < 1:
        raise ModelError(f"model.options.dropout: {dropout} is not a share; use a number from 0 to below 1")
    if activation not in _ACTIVATIONS:
        raise ModelError(f"model.options.activation: {activation!r} is unknown; use one of {', '.join(_ACTIVATIONS)}")
    return Tabular(
        schema,
        members=members,
        width=width,
        depth=depth,
        dropout=dropout,
        activation=activation,
        intervals=intervals,
    )
