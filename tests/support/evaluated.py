"""Trainings that keep what they evaluated, and all ways to predict the same raw rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from farandole.bundle import Bundle, open_bundle
from farandole.serving.query import TranslatedQuery, as_model_columns
from farandole.serving.scoring import ScoringOptions, score_files
from farandole.shards import LABEL, Dataset
from tests.support.command import document, farandole
from tests.support.served import RunningService, running_service
from tests.support.service_clients import ask

TIMEOUT_S = 1200
_REQUEST_ROWS = (1, 2, 3, 7, 16, 33, 64, 100)
_KEEPER = '''
"""A metric that keeps what the trainer evaluates: the trainer calls it with the outputs of a whole split."""

import os
from pathlib import Path

import numpy as np


def keep(outputs, label):
    draft = Path(__file__).with_name(f"draft-{os.getpid()}.npz")
    np.savez(draft, outputs=outputs.numpy(), label=label.numpy())
    os.replace(draft, Path(__file__).with_name(f"evaluated-{len(outputs)}.npz"))  # every rank has the same outputs
    return 0.0
'''


@dataclass(frozen=True)
class Evaluated:
    """A trained model with all forms of its network, and what its trainer computed for the rows of the test split.

    Args:
        bundle: The model.
        shards: Feature group or `LABEL` to the rows of the test split, in stored order.
        outputs: The outputs that the trainer evaluated, float32 `[rows, outputs]`, in the same order.
    """

    bundle: Bundle
    shards: dict[str, np.ndarray]
    outputs: np.ndarray


def train(folder: Path, job: Path, settings: tuple[str, ...], method: str) -> Evaluated:
    """Train a job for an epoch, export its model, and add the form `int8`.

    Args:
        folder: An empty directory.
        job: The job file.
        settings: Fields of it to set.
        method: `static` or `dynamic`.
    """
    copy = folder / "job.yaml"
    shutil.copyfile(job, copy)
    (folder / "keeper.py").write_text(_KEEPER)
    fixed = ("train.epochs=1", "train.metrics=[log_loss,'keeper:keep']", "train.baseline=off")
    arguments = [part for field in (*fixed, *settings) for part in ("--set", field)]
    done = farandole("run", copy, *arguments, "--json", timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    exported = farandole("export", result["model"]["uri"], "-o", folder / "exported", timeout=TIMEOUT_S)
    assert exported.returncode == 0, exported.stderr[-3000:]
    dataset = result["dataset"]["path"]
    document(
        *("models", "compress", folder / "exported", "--int8", method, "-o", folder / "bundle"),
        *("--max-drop", "0.9", "--dataset", dataset),
    )
    with np.load(folder / f"evaluated-{result['dataset']['rows']['test']}.npz") as kept:
        return Evaluated(open_bundle(folder / "bundle"), read_test_rows(Path(dataset), kept["label"]), kept["outputs"])


def read_test_rows(dataset: Path, label: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of the test split in stored order, whose labels the trainer has seen in the same order."""
    reader = Dataset(dataset).split("test")
    blocks = [reader.block(number) for number in range(len(reader.block_rows))]
    rows = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    assert np.array_equal(rows[LABEL], label)
    return rows


def features_of(bundle: Bundle, rows: pa.Table) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the features of raw rows, and the positions of those that the model's query keeps."""
    preprocessing, predictor = bundle.preprocessing, bundle.predictor()
    query = TranslatedQuery.load(bundle.path)
    if query is None:
        columns = {name: rows.column(name) for name in preprocessing.columns}
        return predictor.features(predictor.raw_batch(columns)), np.arange(len(rows))
    found = query.apply(query.raw_batch({name: rows.column(name) for name in query.columns}))
    types = {name: preprocessing.types[name] for name in preprocessing.columns}
    return predictor.features(as_model_columns(found.columns, types)), found.rows


def find_raw_rows(evaluated: Evaluated, rows: pa.Table, label: np.ndarray) -> np.ndarray:
    """Return, for each row of the test split, the position of the raw row with the same features and label, bit by bit.

    Args:
        evaluated: The model.
        rows: Raw rows, those of the test split among them.
        label: The label of each raw row, as the shards have it.
    """
    features, kept = features_of(evaluated.bundle, rows)
    raw: dict[bytes, list[int]] = {}
    for key, position in zip(_keys(features, label[kept]), kept.tolist(), strict=True):
        raw.setdefault(key, []).append(position)
    return np.array([raw[key].pop() for key in _keys(evaluated.shards, evaluated.shards[LABEL])])


def _keys(features: dict[str, np.ndarray], label: np.ndarray) -> list[bytes]:
    groups = [features[name] for name in sorted(features) if name != LABEL]
    numbers = label.astype(np.int64)
    return [b"".join(group[row].tobytes() for group in (*groups, numbers)) for row in range(len(label))]


def predicted_files(bundle: Bundle, rows: Path, folder: Path, form: str) -> dict[str, np.ndarray]:
    """Return the predictions that the function of `farandole predict` writes."""
    output = folder / f"{form}-{rows.suffix[1:]}.parquet"
    result = score_files(bundle, [rows], output, options=ScoringOptions(form))
    assert (result.excluded, result.failed) == (0, 0)
    return columns_of(pq.read_table(output))


def predicted_by_spark(bundle: Bundle, rows: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return the predictions that `farandole predict --master` writes into a directory."""
    output = folder / "spark"
    done = farandole("predict", bundle.path, rows, "-o", output, "--master", "local[1]", timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return columns_of(pa.concat_tables([pq.read_table(file) for file in sorted(output.glob("part-*.parquet"))]))


def answered(bundle: Bundle, rows: list[dict[str, Any]], form: str) -> dict[str, np.ndarray]:
    """Return the predictions of a service with one worker, for requests of a few rows each."""
    found: list[dict[str, Any]] = []
    with running_service(str(bundle.path), "--form", form, "--no-auth", "--workers", "1", "--poll", "0") as service:
        for part in _requests(rows):
            found += _ask(service, part)
    return columns_of(pa.Table.from_pylist(found))


def _ask(service: RunningService, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = ask(service.url, "/predict", {"rows": rows})
    assert answer.status == 200, answer.body[:1000]
    predictions: list[dict[str, Any]] = answer.json["predictions"]
    return predictions


def _requests(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide rows into requests of different lengths."""
    start = number = 0
    while start < len(rows):
        size = _REQUEST_ROWS[number % len(_REQUEST_ROWS)]
        yield rows[start : start + size]
        start, number = start + size, number + 1


def columns_of(table: pa.Table) -> dict[str, np.ndarray]:
    """Return the columns of a table of predictions."""
    return {name: table.column(name).to_numpy() for name in table.column_names}
