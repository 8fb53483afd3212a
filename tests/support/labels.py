"""Label columns of each kind, with outputs of a model for them."""

from __future__ import annotations

import numpy as np
import torch

from farandole.shards import LabelColumn

BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))
MULTICLASS = LabelColumn(kind="multiclass", column="y", classes=("a", "b", "c", "d"))
REGRESSION = LabelColumn(kind="regression", column="y")


def sample(column: LabelColumn, rows: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw outputs that correlate with the label, and the label."""
    random = np.random.default_rng(seed)
    if column.kind == "regression":
        label = random.normal(3, 2, rows)
        outputs = (label + random.normal(0, 1, rows))[:, None]
        return torch.tensor(outputs, dtype=torch.float32), torch.tensor(label, dtype=torch.float32)
    classes = random.integers(0, len(column.classes), rows)
    outputs = random.normal(0, 1, (rows, column.num_outputs))
    if column.kind == "binary":
        outputs[:, 0] += classes * 1.5 - 0.7
    else:
        outputs[np.arange(rows), classes] += 1
    return torch.tensor(outputs, dtype=torch.float32), torch.tensor(classes, dtype=torch.int32)
