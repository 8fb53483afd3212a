"""Fixtures of small datasets, jobs on them and an empty MLflow store, all made without Spark.

The rows have numbers with missing values, a colour with missing values, a time, and a unique number `row`, by which a
test recognizes them. The label follows from the numbers and the colour, so that it can be learned.
"""

from __future__ import annotations

import csv
import datetime
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from farandole.ingest.cache_key import code_version, compute_cache_key
from farandole.ingest.sources.files import find_files
from farandole.preprocess import Observations, Preprocessing, learn
from farandole.shards import Manifest, ShardInfo, ShardWriter, content_digest, write_manifest
from farandole.spec import SPLITS, Data, Job, load_job

ROWS = {"train": 962, "validation": 150, "test": 150}
"""Rows of each split. 962 rows are 15 batches of 64 and a tail of 2: less than one row for each of 3 workers."""
BATCH_ROWS = 64
COLOURS = ("red", "green", "blue")
_BLOCK_ROWS = 50
_SHARDS = 2
_TYPES = {"row": "bigint", "width": "double", "height": "double", "colour": "string", "seen_at": "timestamp"}

FEATURES: dict[str, Any] = {
    "row": {"kind": "numeric", "scale": "minmax", "group": "row"},
    "width": {"kind": "numeric", "indicator": True},
    "height": {"kind": "numeric"},
    "colour": {"kind": "categorical"},
    "seen_at": {"kind": "time", "parts": ["hour"]},
}


Split = dict[str, pd.DataFrame]
"""Raw rows by split."""


@dataclass(frozen=True)
class Made:
    """A small dataset and its raw rows.

    Args:
        path: The dataset directory.
        raw: The raw rows, by split.
        data: The `data` part of a job file that describes it.
        manifest: Its manifest.
    """

    path: Path
    raw: dict[str, pd.DataFrame]
    data: dict[str, Any]
    manifest: Manifest


def make_dataset(directory: Path, kind: str, seed: int = 0, edit: Callable[[Split], None] | None = None) -> Made:
    """Write a CSV file and the dataset that its preparation could have made.

    Args:
        directory: The directory for both.
        kind: `binary`, `multiclass` or `regression`.
        seed: The seed of the random rows.
        edit: Changes the rows of the splits in place.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows = _rows(kind, seed)
    source = directory / "things.csv"
    rows.to_csv(source, index=False, quoting=csv.QUOTE_NONNUMERIC)
    path = directory / "dataset"
    columns = {"row": "double", "width": "double", "height": "double", "colour": "string", "seen_at": "timestamp"}
    data = {
        "sources": {"things": {"path": str(source), "columns": {**columns, "label": _label_type(kind)}}},
        "features": FEATURES,
        "label": {"column": "label", "kind": kind},
        "output": str(path),
    }
    split: dict[str, pd.DataFrame] = {}
    start = 0
    for name in SPLITS:
        split[name] = rows.iloc[start : start + ROWS[name]].reset_index(drop=True)
        start += ROWS[name]
    if edit is not None:
        edit(split)
    return Made(path, split, data, _write(path, Data.model_validate(data), split))


def _label_type(kind: str) -> str:
    return {"binary": "boolean", "multiclass": "string", "regression": "double"}[kind]


def _rows(kind: str, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    count = sum(ROWS.values())
    width, height = random.normal(10, 3, count), random.normal(-2, 0.5, count)
    colour = random.integers(0, len(COLOURS), count)
    value = (
        (width - 10) / 3 + 2 * (height + 2) + 1.5 * (colour == 0) - 1.5 * (colour == 2) + random.normal(0, 0.3, count)
    )
    labels: Any = {
        "binary": value > 0,
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(value, [-1, 1])],
        "regression": 3 * value + 5,
    }[kind]
    noon = datetime.datetime(2024, 3, 1, 12)
    return pd.DataFrame(
        {
            "row": np.arange(count, dtype=float),
            "width": np.where(random.random(count) < 0.05, np.nan, width),
            "height": np.where(random.random(count) < 0.05, np.nan, height),
            "colour": np.where(random.random(count) < 0.05, None, np.array(COLOURS)[colour].astype(object)),
            "seen_at": [noon + datetime.timedelta(minutes=int(minute)) for minute in random.integers(0, 9999, count)],
            "label": labels,
        }
    )


def _write(path: Path, data: Data, split: dict[str, pd.DataFrame]) -> Manifest:
    """Fit on the training split and write shards, like the preparation with Spark."""
    preprocessing = replace(Preprocessing.from_spec(data), types=_TYPES)
    batches = {name: _batch(preprocessing, frame) for name, frame in split.items()}
    while not preprocessing.fitted:
        seen = Observations()
        seen.add(preprocessing, batches["train"])
        preprocessing = learn(preprocessing, seen)
    schema, fitted = preprocessing.schema, preprocessing.to_dict()
    splits: dict[str, tuple[ShardInfo, ...]] = {}
    for name, batch in batches.items():
        shards = []
        size = -(-batch.num_rows // _SHARDS)
        for index in range(_SHARDS):
            writer = ShardWriter(path, name, index, schema, _BLOCK_ROWS)
            writer.write(preprocessing.rows(batch.slice(index * size, size)))
            shards.append(writer.close())
        splits[name] = tuple(shards)
    files = {name: find_files(name, source) for name, source in data.sources.items()}
    manifest = Manifest(
        digest=content_digest(schema, fitted, splits),
        columns=schema,
        splits=splits,
        preprocessing=fitted,
        statistics={},
        split_rule=data.split.model_dump(mode="json"),
        sources=tuple(entry.to_dict() for source in files.values() for entry in source.fingerprint),
        request=compute_cache_key(data, files),
        code_version=code_version(),
    )
    write_manifest(path, manifest)
    return manifest


def _batch(preprocessing: Preprocessing, frame: pd.DataFrame) -> pa.RecordBatch:
    raw = preprocessing.raw_batch(frame)
    return raw.append_column("label", pa.array(frame["label"]))


WriteJob = Callable[..., Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Return the function that makes a dataset of a kind, once; tests only read it."""
    known: dict[tuple[str, int], Made] = {}

    def made(kind: str = "binary", seed: int = 0) -> Made:
        if (kind, seed) not in known:
            known[kind, seed] = make_dataset(tmp_path_factory.mktemp(kind), kind, seed)
        return known[kind, seed]

    return made


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an MLflow store without runs, to be copied: creating its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """Set `$FARANDOLE_HOME` for all tests of a module, with an empty MLflow store."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_store, home / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        _enter(home, patch)
        yield home


@pytest.fixture
def home(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set `$FARANDOLE_HOME` for one test, with an empty MLflow store."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    _enter(home, monkeypatch)
    return home


def _enter(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("FARANDOLE_HOME", str(home))
    for name in os.environ:
        if name.startswith("MLFLOW_") or name == "FARANDOLE_DEBUG":
            patch.delenv(name)


@pytest.fixture
def write_job(tmp_path: Path, made: Callable[..., Made]) -> WriteJob:
    """Return the function that writes a job file on a small dataset, beside the networks of `networks.py`."""
    return _job_writer(tmp_path / "folder", made)


@pytest.fixture(scope="module")
def write_module_job(tmp_path_factory: pytest.TempPathFactory, made: Callable[..., Made]) -> WriteJob:
    """Return the same function for fixtures of a module."""
    return _job_writer(tmp_path_factory.mktemp("folder"), made)


def _job_writer(folder: Path, made: Callable[..., Made]) -> WriteJob:
    def write(kind: str = "binary", seed: int = 0, **changes: Any) -> Path:
        """Write the job file; `changes` are field paths with `__` for dots: `train__epochs=3`."""
        raw: dict[str, Any] = {
            "name": "small",
            "data": made(kind, seed).data,
            "model": {"builder": "network:build", "options": {}},
            "train": {
                "epochs": 2,
                "global_batch_size": BATCH_ROWS,
                "optimizer": {"learning_rate": 0.02},
                "log_every_steps": 1,
                "seed": 3,
            },
            "resources": {"workers": 2, "cpus": 1, "max_restarts": 0},
            "tracking": {"system_metrics": False},
        }
        for field, value in changes.items():
            *parents, last = field.split("__")
            section = raw
            for parent in parents:
                section[parent] = dict(section[parent])
                section = section[parent]
            section[last] = value
        folder.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("networks.py"), folder / "network.py")
        path = folder / "job.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_job(write_job: WriteJob) -> Callable[..., Job]:
    """Return the function that loads a job, with the arguments of `write_job`."""
    return lambda *arguments, **changes: load_job(write_job(*arguments, **changes))


@pytest.fixture(scope="module")
def make_module_job(write_module_job: WriteJob) -> Callable[..., Job]:
    """Return the same function for fixtures of a module."""
    return lambda *arguments, **changes: load_job(write_module_job(*arguments, **changes))
