"""Job files as `farandole init` writes them, prepared without an edit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from farandole import pipeline
from farandole.guessing.guess import guess, look
from farandole.guessing.job_text import write_job_file
from farandole.ingest.prepared import PreparedDataset
from farandole.shards import Dataset
from farandole.spec import ImageSource, Job, ParquetSource, load_job
from tests.support.odd_tables import write_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.slow


def _prepared(data: Path, label: str | None = None) -> tuple[Job, PreparedDataset]:
    """Return the job that is guessed for data, and its dataset."""
    job = load_job(write_job_file(guess(look(str(data)), label=label), data.parent / "job"))
    return job, pipeline.prepare(pipeline.check(job, ["prepare"]))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_declared_columns_of_directories_are_prepared(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    for year in (2019, 2020):
        folder = tmp_path / "hive" / f"year={year}"
        write_table(folder / "t.csv", "x,y", lambda source, _: f"{source.random():.3f},{source.choice('ab')}")
        if kind == "jsonl":
            lines = (line.split(",") for line in (folder / "t.csv").read_text(encoding="utf-8").splitlines()[1:])
            objects = [json.dumps({"x": float(x), "y": y}) for x, y in lines]
            (folder / "t.jsonl").write_text("\n".join(objects) + "\n", encoding="utf-8")
            (folder / "t.csv").unlink()
    job, prepared = _prepared(tmp_path / "hive", "y")
    assert sum(prepared.manifest.row_counts.values()) == 400
    assert prepared.manifest.statistics["year"]["max"] == 2020
    (source,) = job.data.sources.values()
    assert not isinstance(source, ImageSource | ParquetSource)
    assert source.columns is not None
    assert source.columns["year"] == "bigint"


def test_table_with_everything_odd_is_prepared(spark: SparkSession, tmp_path: Path) -> None:
    header = '"";"größe";"a.b";"preis";"when";"code";"ok";"Y"'

    def row(source: random.Random, number: int) -> str:
        size, letter = source.choice(["NA", f"{source.random():.3f}"]), source.choice("ab")
        price = f"€{source.randint(1, 9)}.{source.randint(100, 999)},50"
        day, code = f"{1 + number % 28}.{1 + number % 12}.2024", f"{source.randint(1, 30):05d}"
        label = "rare" if number == 3 else source.choice(["", "no", "maybe", "yes"])
        return f"{number + 1};{size};{letter};{price};{day};{code};{source.choice(['TRUE', 'True', 'false'])};{label}"

    path = write_table(tmp_path / "in" / "odd.csv", header.replace('"";', '"n";'), row, encoding="cp1252")
    job, prepared = _prepared(path, "Y")
    assert {name: feature.kind for name, feature in job.data.features.items()} == {
        "grosse": "numeric",
        "a_b": "categorical",
        "preis": "numeric",
        "when": "time",
        "when_days": "time",
        "code": "categorical",
        "ok": "categorical",
    }
    manifest = prepared.manifest
    assert sum(manifest.row_counts.values()) == sum(
        line.rpartition(";")[2] in ("no", "maybe", "yes") for line in path.read_text("cp1252").splitlines()
    )
    assert manifest.columns.target.classes == ("maybe", "no", "yes")


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
def test_rows_in_the_order_of_time_are_split_by_it(spark: SparkSession, tmp_path: Path, name: str) -> None:
    rows = 200
    times = [f"{np.datetime64('2024-01-01') + number}T00:00:00" for number in range(rows)]
    values = {"when": times, "x": np.random.default_rng(0).random(rows).tolist(), "y": list(map(float, range(rows)))}
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    if path.suffix == ".parquet":
        pq.write_table(pa.table(values | {"when": pa.array(np.array(times, "datetime64[us]"))}), path)
    else:
        path.write_text(
            "\n".join(json.dumps(dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True))
        )
    job, prepared = _prepared(path, "y")
    assert job.data.split.time == "when"
    assert prepared.manifest.row_counts == {"train": 120, "validation": 40, "test": 40}
    # The label counts the rows, so the latest rows are those with the greatest labels.
    dataset = Dataset(prepared.path)
    train, validation, test = (dataset.split(name).block(0)["label"] for name in ("train", "validation", "test"))
    assert train.max() < validation.min() <= validation.max() < test.min()


def test_wide_table_gets_its_features_when_it_is_prepared(spark: SparkSession, tmp_path: Path) -> None:
    header = ",".join([*(f"a rather long name of column {number}" for number in range(80)), "y"])
    path = write_table(
        tmp_path / "in" / "wide.csv",
        header,
        lambda source, _: ",".join([*(f"{source.random():.3f}" for _ in range(80)), source.choice(["", "a", "b"])]),
    )
    job, prepared = _prepared(path, "y")
    assert job.data.auto_features is not None
    assert job.data.query is not None
    (group,) = prepared.manifest.columns.groups
    assert group.size == 80
    again = pipeline.prepare(pipeline.check(job, ["prepare"]))
    assert again.reused


def test_folders_of_images_are_prepared(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(30):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / "in" / name / f"{number}.png")
    _, prepared = _prepared(tmp_path / "in")
    assert sum(prepared.manifest.row_counts.values()) == 60
    assert prepared.manifest.columns.target.classes == ("cat", "dog")
