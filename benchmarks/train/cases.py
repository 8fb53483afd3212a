"""Cases of the training benchmark: random data from a seed, and jobs that resemble real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farandole.shards import (
    LABEL,
    Group,
    LabelColumn,
    Manifest,
    Schema,
    ShardWriter,
    content_digest,
    write_manifest,
)
from farandole.spec import Job, parse_job

_BLOCK_BYTES = 8 * 2**20
_FLIGHTS_CARDINALITIES = (13, 8, 25, 17, 4, 106, 225, 315, 1096)


@dataclass(frozen=True)
class TrainingCase:
    """A job and its data.

    Args:
        name: Name on the command line.
        about: Description.
        groups: The feature groups.
        classes: Number of classes of the label.
        builder: Builder of the network.
        batch_rows: Rows of a global batch.
        steps: Steps of a measurement.
        quick_steps: Steps of a quick one.
        options: Options of the network.
    """

    name: str
    about: str
    groups: tuple[Group, ...]
    classes: int
    builder: str
    batch_rows: int
    steps: int
    quick_steps: int = 30
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> Schema:
        """Schema of the dataset."""
        kind = "binary" if self.classes == 2 else "multiclass"
        classes = tuple(str(number) for number in range(self.classes))
        return Schema(groups=self.groups, label=LabelColumn(kind=kind, column="y", classes=classes))

    def job(self, dataset: Path, log_every_steps: int) -> Job:
        """Return the job."""
        return parse_job(
            {
                "name": "bench",
                "data": {
                    "sources": {"random": {"path": str(dataset / "random.csv")}},
                    "features": {"x": {"kind": "numeric"}},
                    "label": {"column": "y", "kind": self.schema.target.kind},
                    "output": str(dataset),
                },
                "model": {"builder": self.builder, "options": self.options},
                "train": {
                    "epochs": 1,
                    "global_batch_size": self.batch_rows,
                    "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01},
                    "log_every_steps": log_every_steps,
                },
            }
        )

    def write(self, directory: Path, steps: int) -> None:
        """Write a dataset with the rows of a number of global batches."""
        schema, random = self.schema, np.random.default_rng(17)
        block_rows = max(1, _BLOCK_BYTES // schema.row_bytes)
        writer = ShardWriter(directory, "train", 0, schema, block_rows)
        remaining = steps * self.batch_rows
        while remaining:
            rows = min(remaining, block_rows)
            columns = {group.name: _random_values(group, rows, random) for group in schema.groups}
            columns[LABEL] = random.integers(0, self.classes, rows, dtype=np.int32)
            writer.write(columns)
            remaining -= rows
        splits = {"train": (writer.close(),), "validation": (), "test": ()}
        manifest = Manifest(
            digest=content_digest(schema, {}, splits),
            columns=schema,
            splits=splits,
            preprocessing={},
            statistics={},
            split_rule={},
            sources=(),
            request="",
            code_version={},
        )
        write_manifest(directory, manifest)


def _random_values(group: Group, rows: int, random: np.random.Generator) -> np.ndarray:
    shape = (rows, *group.shape)
    if group.kind == "numbers":
        return random.standard_normal(shape, dtype=np.float32)
    if group.kind == "image":
        return random.integers(0, 256, shape, np.uint8)
    return random.integers(0, np.array(group.cardinalities), shape, np.int32)


def _numbers(count: int) -> Group:
    return Group(name="dense", kind="numbers", features=tuple(f"x{number}" for number in range(count)))


TRAINING_CASES: dict[str, TrainingCase] = {
    case.name: case
    for case in (
        TrainingCase(
            "flights_mlp",
            "the flights job: 28 numbers, 9 embeddings, 128-64, steps of 4,096 rows",
            (
                _numbers(28),
                Group(
                    name="categorical",
                    kind="ids",
                    features=tuple(f"c{number}" for number in range(len(_FLIGHTS_CARDINALITIES))),
                    cardinalities=_FLIGHTS_CARDINALITIES,
                ),
            ),
            2,
            "farandole.models.mlp:build",
            4096,
            160,
            options={"hidden": [128, 64], "dropout": 0.0, "embedding_dropout": 0.0, "max_embedding": 16},
        ),
        TrainingCase(
            "mnist_cnn",
            "images of 28 x 28, three convolutions of 32, 64 and 64, steps of 128 rows",
            (Group(name="image", kind="image", features=("image",), shape=(28, 28, 1), value_type="uint8"),),
            10,
            "benchmarks.train.networks:cnn",
            128,
            100,
        ),
        TrainingCase(
            "mlp10m",
            "784 numbers, 784-2048-2048-2048-10, 10 million parameters, steps of 256 rows",
            (_numbers(784),),
            10,
            "benchmarks.train.networks:mlp10m",
            256,
            60,
            quick_steps=12,
        ),
    )
}
"""By name."""
