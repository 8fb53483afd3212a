"""Rows to explain a model by: of a dataset's test split, or of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.bundle import Predictor
from farandole.errors import DataError, explain_os_error
from farandole.explaining.importance import Sample
from farandole.loading import EvaluationLoader
from farandole.preprocess import Preprocessing
from farandole.shards import Dataset

_SPLITS = ("test", "validation")


def sample_dataset(dataset: Dataset, rows: int) -> Sample | None:
    """Return the first rows of the test split, or else of validation; None if both are empty.

    Rows of a split are in the order of their hashes, so that the first ones are a random sample.
    """
    for split in _SPLITS:
        if dataset.manifest.rows(split):
            batch = next(iter(EvaluationLoader(dataset, split, batch_rows=rows, read_ahead=0)))
            features = {name: np.array(tensor.numpy()) for name, tensor in batch.features.items()}
            return Sample(features, np.array(batch.label.numpy()), f"{split} rows")
    return None


def sample_file(path: Path, predictor: Predictor, preprocessing: Preprocessing, rows: int) -> Sample:
    """Return the first rows of a CSV or Parquet file with the columns of the job's query.

    Args:
        path: The file.
        predictor: The model's.
        preprocessing: The model's; if the file has the label's column, its values are the label.
        rows: Rows at most.

    Raises:
        DataError: The file cannot be read, or its rows do not fit the model.
    """
    columns = _read(path, rows)
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{path}: has no rows; give a file with the columns {', '.join(preprocessing.columns)}")
    features = predictor.features(predictor.raw_batch(columns))
    label = preprocessing.label
    found = None
    if label is not None and label.column in columns:
        found = label.apply(_label_values(columns[label.column], preprocessing))
    return Sample(features, found, f"rows of {path.name}")


def _label_values(values: list[Any], preprocessing: Preprocessing) -> pa.Array:
    """Return the values of the label, truth values as Spark writes them."""
    array = pa.array(values)
    if set(preprocessing.schema.target.classes) == {"true", "false"} and pa.types.is_string(array.type):
        return pc.utf8_lower(pc.utf8_trim_whitespace(array))
    return array


def _read(path: Path, rows: int) -> dict[str, list[Any]]:
    try:
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            batch = next(pq.ParquetFile(path).iter_batches(batch_size=rows), None)
            return {} if batch is None else batch.to_pydict()
        if path.suffix in (".csv", ".tsv"):
            import pandas as pd

            separator = "," if path.suffix == ".csv" else "\t"
            # As text: pandas would turn 007 into 7, and categories such as `None` into missing values.
            frame = pd.read_csv(path, sep=separator, nrows=rows, dtype=str, keep_default_na=False, na_filter=False)
            return {str(name): frame[name].tolist() for name in frame}
    except OSError as error:
        raise DataError(explain_os_error(error, path)) from error
    except (ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); give a CSV or Parquet file"
        ) from error
    raise DataError(f"{path}: {path.suffix or 'no ending'} is not a known form; give a .csv, .tsv or .parquet file")
