from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from farandole.bundle import Predictor
from farandole.errors import DataError
from farandole.explaining import ExplainedModel
from farandole.explaining.samples import sample_dataset, sample_file
from farandole.shards import LABEL, Dataset
from tests.support.explained import labels, linear, made_model, raw_rows
from tests.support.made_data import Made, make_dataset

NUMBERS = {"price": {"kind": "numeric"}, "copy": {"kind": "numeric"}}


@pytest.fixture(scope="module")
def model() -> ExplainedModel:
    return made_model(linear, NUMBERS, "binary", weights=[[1.0, 1.0]])


@pytest.fixture
def predictor(model: ExplainedModel) -> Predictor:
    return Predictor(model.preprocessing, {}, model.outputs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_dataset(tmp_path_factory.mktemp("made"), "binary")


def test_the_first_rows_of_the_test_split_are_used(made: Made) -> None:
    dataset = Dataset(made.path)
    sample = sample_dataset(dataset, 60)
    assert sample is not None
    assert (sample.rows, sample.origin) == (60, "test rows")
    block = dataset.split("test").block(0)
    assert np.array_equal(sample.features["dense"][:50], block["dense"])
    assert sample.label is not None
    assert np.array_equal(sample.label[:50], block[LABEL])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_of_a_file_are_those_of_its_columns(
    form: str, model: ExplainedModel, predictor: Predictor, tmp_path: Path
) -> None:
    rows = raw_rows(20)
    frame = pd.DataFrame({"price": rows["price"], "copy": rows["copy"], "label": labels("binary", 20)})
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    sample = sample_file(path, predictor, model.preprocessing, 15)
    assert (sample.rows, sample.origin) == (15, f"rows of rows.{form}")
    expected = model.preprocessing.features(model.preprocessing.raw_batch(rows))["dense"][:15]
    assert sample.features["dense"] == pytest.approx(expected)
    assert sample.label.tolist() == [int(value == "yes") for value in frame["label"][:15]]
    frame = frame.drop(columns="label")
    frame.to_csv(tmp_path / "unlabelled.csv", index=False)
    assert sample_file(tmp_path / "unlabelled.csv", predictor, model.preprocessing, 15).label is None


def test_files_that_cannot_be_read_are_errors(model: ExplainedModel, predictor: Predictor, tmp_path: Path) -> None:
    def refuse(name: str, content: bytes | None) -> str:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as raised:
            sample_file(path, predictor, model.preprocessing, 5)
        return str(raised.value)

    assert "No such file" in refuse("missing.csv", None)
    assert "is not a known form" in refuse("rows.xlsx", b"")
    assert "cannot be read" in refuse("damaged.parquet", b"PAR1 not really")
    assert "has no rows; give a file with the columns price, copy" in refuse("empty.csv", b"price,copy\n")
    assert "column copy: is missing" in refuse("short.csv", b"price\n3\n")
