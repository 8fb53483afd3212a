"""Job files that `init` writes for tables of many kinds, prepared without an edit: every value is as in the table."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole import pipeline
from farandole.guessing.guess import Guess, guess, look
from farandole.guessing.job_text import write_job_file
from farandole.shards import Dataset, Manifest
from farandole.spec import Job, load_job
from tests.support.mixed_tables import DECIMAL_COMMA, DECIMAL_POINT, Cell, Way, word, write_mixed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.slow(seconds=60)

_CLASSES = word("bad", "fair", "good")
_FILES: dict[str, tuple[Mapping[str, Way], dict[str, Any]]] = {
    "decimal commas": (DECIMAL_COMMA, {"separator": ";", "encoding": "cp1252"}),
    "decimal points": (DECIMAL_POINT, {}),
}


def _prepared(path: Path) -> tuple[Guess, Job, Manifest]:
    """Return what is guessed of a table, the job that is written, and the manifest of its dataset."""
    found = guess(look(str(path)), label="column_1" if "headerless" in path.name else "y")
    job = load_job(write_job_file(found, path.parent.parent / "job"))
    return found, job, pipeline.prepare(pipeline.check(job, ["prepare"])).manifest


def _labels(job: Job, manifest: Manifest) -> list[float]:
    """Return the labels of all rows in their own unit, sorted."""
    dataset = Dataset(job.data.output)
    splits = [dataset.split(name) for name, rows in manifest.row_counts.items() if rows]
    labels = np.concatenate([split.block(index)["label"] for split in splits for index in range(len(split.block_rows))])
    scale = manifest.columns.target.scale
    assert scale is not None
    return sorted((labels.ravel().astype(float) * scale.deviation + scale.mean).tolist())


def _check_statistics(manifest: Manifest, values: Mapping[str, list[object]], kept: list[bool]) -> None:
    """Check that the columns of the training rows hold values of the table's, missing ones included."""
    for column, found in manifest.statistics.items():
        known = [value for value, keeps in zip(values[column], kept, strict=True) if keeps]
        assert (found.get("missing", 0) > 0) <= (None in known), column
        if "mean" in found:
            numbers = [value for value in known if isinstance(value, float)]
            assert {found["min"], found["max"]} <= set(numbers), column
            assert abs(found["mean"] - np.mean(numbers)) < 2 * np.std(numbers) / np.sqrt(found["rows"] / 4), column
        else:
            assert {value for value, _ in found["most_frequent"]} <= set(known), column


def _missing(way: Way) -> Way:
    """Return a way to write a column, in which some values are empty."""

    def cell(source: random.Random) -> Cell:
        return ("", None) if source.random() < 0.2 else way(source)

    return cell


def _with_rare(way: Way) -> Way:
    """Return a way to write a column, in which another class has few rows."""
    left = iter([*["good"] * 10, "rare", "rare", *["good"] * 1000])

    def cell(source: random.Random) -> Cell:
        value = next(left)
        return (value, value) if value == "rare" else way(source)

    return cell


@pytest.mark.parametrize("fault", ["nothing", "missing label", "rare class"])
@pytest.mark.parametrize("file", _FILES)
def test_every_column_is_converted(file: str, fault: str, spark: SparkSession, tmp_path: Path) -> None:
    ways, options = _FILES[file]
    label = {"nothing": _CLASSES, "missing label": _missing(_CLASSES), "rare class": _with_rare(_CLASSES)}[fault]
    values = write_mixed(tmp_path / "in" / "t.csv", {**ways, "y": label}, **options)
    found, job, manifest = _prepared(tmp_path / "in" / "t.csv")
    kept = [value not in (None, "rare") for value in values["y"]]
    assert sum(manifest.row_counts.values()) == sum(kept)
    assert manifest.columns.target.classes == ("bad", "fair", "good")
    assert {feature.column or name for name, feature in job.data.features.items()} == set(ways)
    assert any("to be left out" in warning for warning in found.warnings) is (fault != "nothing")
    _check_statistics(manifest, values, kept)


@pytest.mark.parametrize(
    ("file", "column"),
    [
        (file, column)
        for file, (ways, _) in _FILES.items()
        for column in ways
        if column not in ("sign", "garage", "decimal comma", "plain", "euros", "padded", "percents")
    ],
)
def test_labels_are_converted_before_rows_are_left_out(
    file: str, column: str, spark: SparkSession, tmp_path: Path
) -> None:
    ways, options = _FILES[file]
    kept_ways = {name: way for name, way in ways.items() if name in ("sign", "garage", "decimal comma", "plain")}
    columns = {**kept_ways, "y": _missing(ways[column])}
    values = write_mixed(tmp_path / "in" / "t.csv", columns, **options)
    found, job, manifest = _prepared(tmp_path / "in" / "t.csv")
    expected = sorted(value for value in values["y"] if isinstance(value, float))
    if found.label.kind == "regression":
        assert _labels(job, manifest) == pytest.approx(expected, rel=1e-4, abs=1e-2)
    else:  # a few whole numbers are classes
        assert manifest.columns.target.classes == tuple(sorted({str(int(value)) for value in expected}))
    assert sum(manifest.row_counts.values()) == len(expected)


def test_infinite_numbers_are_missing_in_labels_and_features(spark: SparkSession, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).random((100, 2)) * 50
    numbers[3, 0], numbers[4, 1], numbers[5, 1] = np.inf, -np.inf, np.nan
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"x": numbers[:, 0], "y": numbers[:, 1]}), tmp_path / "in" / "t.parquet")
    _, job, manifest = _prepared(tmp_path / "in" / "t.parquet")
    expected = sorted(value for value in numbers[:, 1].tolist() if np.isfinite(value))
    assert _labels(job, manifest) == pytest.approx(expected, rel=1e-4, abs=1e-2)


@pytest.mark.parametrize("columns", [40, 130])
def test_wide_table_with_written_numbers(columns: int, spark: SparkSession, tmp_path: Path) -> None:
    ways = {f"a rather long name of column {index}": DECIMAL_POINT["plain"] for index in range(columns)}
    ways |= {"price": DECIMAL_POINT["dollars"], "sentinel": DECIMAL_POINT["sentinel"], "loss": DECIMAL_POINT["loss"]}
    ways |= {"sign": word("-", "+"), "y": _missing(_CLASSES)}
    values = write_mixed(tmp_path / "in" / "t.csv", ways, rows=60)
    _, job, manifest = _prepared(tmp_path / "in" / "t.csv")
    assert job.data.auto_features is not None
    assert set(manifest.statistics) == set(values)
    _check_statistics(manifest, values, [value is not None for value in values["y"]])


def test_wide_table_of_thousands(spark: SparkSession, tmp_path: Path) -> None:
    ways = {f"einwohner {index}": DECIMAL_COMMA["thousands"] for index in range(70)}
    values = write_mixed(tmp_path / "in" / "t.csv", {**ways, "y": _CLASSES}, separator=";", rows=60)
    _, _, manifest = _prepared(tmp_path / "in" / "t.csv")
    assert set(manifest.statistics) == set(values)
    _check_statistics(manifest, values, [True] * 60)


@pytest.mark.parametrize("columns", [3, 57, 150])
def test_file_without_a_header(columns: int, spark: SparkSession, tmp_path: Path) -> None:
    ways = {"column_1": _CLASSES, **{f"column_{index}": DECIMAL_POINT["plain"] for index in range(2, columns + 1)}}
    ways["column_2"] = DECIMAL_POINT["sentinel"]
    ways["column_3"] = DECIMAL_POINT["loss"]
    values = write_mixed(tmp_path / "in" / "headerless.csv", ways, header=False, rows=60)
    _, _, manifest = _prepared(tmp_path / "in" / "headerless.csv")
    assert set(manifest.statistics) == set(values)
    _check_statistics(manifest, values, [True] * 60)


def test_quoted_line_breaks_that_begin_late(spark: SparkSession, tmp_path: Path) -> None:
    after = iter(range(10**6))

    def note(source: random.Random) -> Cell:
        text = source.choice(["a", "b"]) if next(after) < 300 else source.choice(["a", "two\nlines"])
        return text, text

    ways = {"x": DECIMAL_POINT["plain"], "note": note, "y": _CLASSES}
    values = write_mixed(tmp_path / "in" / "t.csv", ways, rows=500)
    found, _, manifest = _prepared(tmp_path / "in" / "t.csv")
    assert found.source["multiline"] is True
    assert sum(manifest.row_counts.values()) == 500
    _check_statistics(manifest, values, [True] * 500)


def test_dates_in_several_patterns(spark: SparkSession, tmp_path: Path) -> None:
    def day(pattern: str, missing: str = "") -> Way:
        def cell(source: random.Random) -> Cell:
            text = pattern.format(year=2024, month=source.randint(1, 12), day=source.randint(13, 28))
            return (missing, None) if missing and source.random() < 0.2 else (text, text)

        return cell

    ways = {
        "iso": day("{year}-{month:02}-{day}"),
        "german": day("{day}.{month:02}.{year}"),
        "american": day("{month}/{day}/{year}", "-"),
        "hour": day("{day}.{month:02}.{year} 18:05"),
        "sign": word("-", "+"),
        "y": _CLASSES,
    }
    write_mixed(tmp_path / "in" / "t.csv", ways)
    _, job, manifest = _prepared(tmp_path / "in" / "t.csv")
    kinds = {feature.column or name: feature.kind for name, feature in job.data.features.items()}
    assert kinds == {**dict.fromkeys(("iso", "german", "american", "hour"), "time"), "sign": "categorical"}
    for column in ("iso", "german", "american", "hour"):
        found = manifest.statistics[column]
        assert found["earliest"].startswith("2024-01"), found
        assert found["latest"].startswith("2024-12"), found
        assert (found.get("missing", 0) > 0) is (column == "american"), found
