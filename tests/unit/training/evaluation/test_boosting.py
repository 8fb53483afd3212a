from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farandole.shards import Dataset, Group, LabelColumn, Schema
from farandole.spec import METRICS
from farandole.training.evaluation import boosting
from farandole.training.evaluation.boosting import fit_and_predict, is_suitable
from farandole.training.evaluation.metrics import compute_metrics
from tests.support.labels import REGRESSION
from tests.support.made_data import ROWS, Made

MakeMade = Callable[..., Made]


def measured(dataset: Dataset, outputs: np.ndarray) -> dict[str, float]:
    """Return the metrics of outputs for the test rows."""
    import torch

    label, reader = dataset.manifest.columns.target, dataset.split("test")
    stored = np.concatenate([reader.block(number)["label"] for number in range(len(reader.block_rows))])
    true = label.in_units(stored) if label.kind == "regression" else stored
    return compute_metrics(METRICS[label.kind], torch.from_numpy(outputs), torch.from_numpy(true), label)


@pytest.mark.parametrize(
    ("kind", "metric", "least"),
    [("binary", "roc_auc", 0.95), ("multiclass", "accuracy", 0.8), ("regression", "r2", 0.85)],
)
def test_boosting_learns_the_rows_of_shards(made: MakeMade, kind: str, metric: str, least: float) -> None:
    dataset = Dataset(made(kind).path)
    outputs, rows = fit_and_predict(dataset)
    assert rows == ROWS["train"]
    assert outputs.shape == (ROWS["test"], dataset.manifest.columns.target.num_outputs)
    assert measured(dataset, outputs)[metric] > least


def test_only_some_rows_of_a_large_dataset_are_used(made: MakeMade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "MAX_ROWS", 120)
    outputs, rows = fit_and_predict(Dataset(made().path))
    assert rows == 120
    assert len(outputs) == ROWS["test"]
    columns = sum(group.size for group in made().manifest.columns.groups)
    monkeypatch.setattr(boosting, "MAX_VALUES", 90 * columns)
    assert fit_and_predict(Dataset(made().path))[1] == 90


def test_class_that_the_sample_lacks_has_a_small_probability(made: MakeMade, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(made("multiclass").path)
    label = dataset.split("train").block(0)["label"]
    monkeypatch.setattr(boosting, "MAX_ROWS", int(np.flatnonzero(label != label[0])[0]) + 1)  # two of three classes
    outputs, _ = fit_and_predict(dataset)
    assert outputs.shape[1] == 3
    assert np.isfinite(outputs).all()


def test_class_with_a_single_row_among_many_is_learned(made: MakeMade, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 10,000 rows, scikit-learn's default is to stop early, by rows of a stratified split."""
    dataset = Dataset(made("multiclass").path)
    features, labels = boosting._training_rows(dataset)
    features, labels = np.tile(features, (11, 1)), np.tile(np.minimum(labels, 1), 11)
    labels[7] = 2
    monkeypatch.setattr(boosting, "_training_rows", lambda dataset: (features, labels))
    outputs, rows = fit_and_predict(dataset)
    assert rows == len(labels) > 10_000
    assert np.isfinite(outputs).all()


def test_process_writes_its_outputs_and_prints_nothing(made: MakeMade, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "kept.npz"
    request = {"directory": str(made().path), "key": None, "output": str(tmp_path / "out.npz"), "kept": str(kept)}
    done = subprocess.run(
        [sys.executable, "-m", "farandole.training.evaluation.boosting"],
        input=json.dumps(request).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b""
    with np.load(tmp_path / "out.npz") as found:
        assert found["outputs"].shape == (ROWS["test"], 1)
    assert kept.read_bytes() == (tmp_path / "out.npz").read_bytes()


def test_only_the_newest_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "_MAX_KEPT", 2)
    output = tmp_path / "out.npz"
    output.write_bytes(b"result")
    for age, name in enumerate(("c", "b", "a"), start=1):
        boosting._keep(output, tmp_path / "kept" / f"{name}.npz")
        os.utime(tmp_path / "kept" / f"{name}.npz", (age, age))
    boosting._keep(output, tmp_path / "kept" / "new.npz")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a.npz", "new.npz"]


TABLE: dict[str, Any] = {
    "groups": (Group(name="dense", kind="numbers", features=("a",)),),
    "label": REGRESSION,
}


@pytest.mark.parametrize(
    ("changes", "suitable"),
    [
        ({}, True),
        ({"label": None}, False),
        ({"groups": (Group(name="t", kind="tensor", features=("t",), shape=(2,), value_type="float32"),)}, False),
        ({"groups": (Group(name="c", kind="ids", features=("c",), cardinalities=(9,)),)}, True),
        ({"label": LabelColumn(kind="multiclass", column="y", classes=tuple(map(str, range(51))))}, False),
    ],
)
def test_only_tables_with_few_classes_are_suitable(changes: dict[str, Any], suitable: bool) -> None:
    assert is_suitable(Schema(**TABLE | changes)) is suitable
