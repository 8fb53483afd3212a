"""The baseline: a script with pandas and torch that does for the job `flights` what `farandole predict` does.

`python -m benchmarks.predict.handwritten BUNDLE ROWS OUTPUT` takes weights and fitted numbers from the bundle, and
joins and converts the rows by code that knows the job. It prints a JSON document with `rows` and `seconds`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from benchmarks.ingest.flights import flights_archive
from farandole.bundle import open_bundle

_BATCH_ROWS = 131_072
_CYCLES = {"day_of_year": (1, 366), "weekday": (0, 7), "hour": (0, 24)}
"""First value and length of the cycle of each part of a time."""
_MEASURED = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


def main() -> None:
    """Predict a file of flights."""
    bundle = open_bundle(sys.argv[1])
    transforms, network = bundle.read_json("preprocessing.json")["transforms"], bundle.network()
    data = flights_archive().parent
    weather = pd.read_csv(data / "weather.csv", usecols=["origin", "time_hour", *_MEASURED])
    weather["time_hour"] = pd.to_datetime(weather.time_hour, utc=True).dt.as_unit("us")
    planes = pd.read_csv(data / "planes.csv", usecols=["tailnum", "year", "seats"])
    planes = planes.rename(columns={"year": "plane_year"})
    started_s, rows = time.monotonic(), 0
    schema = pa.schema([("prediction", pa.string()), ("probability", pa.float64())])
    with pq.ParquetWriter(sys.argv[3], schema) as writer:
        for batch in pq.ParquetFile(sys.argv[2]).iter_batches(_BATCH_ROWS):
            dense, ids = convert(join(batch.to_pandas(), weather, planes), transforms)
            probability = predict(network, dense, ids)
            label = np.array(bundle.label.classes, dtype=object)[(probability > 0.5).astype(int)]
            writer.write_batch(pa.record_batch([pa.array(label, pa.string()), pa.array(probability)], schema=schema))
            rows += len(probability)
    seconds = time.monotonic() - started_s
    print(json.dumps({"rows": rows, "seconds": seconds, "output": str(Path(sys.argv[3]))}))


def join(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the features are made from, as the job's query does."""
    found = flights.merge(weather, how="left", on=["origin", "time_hour"]).merge(planes, how="left", on="tailnum")
    angle = np.radians(found.wind_dir)
    return found.assign(
        departure=pd.to_datetime(found[["year", "month", "day", "hour", "minute"]]),
        departure_minute=found.hour * 60 + found.minute,
        arrival_minute=found.sched_arr_time // 100 * 60 + found.sched_arr_time % 100,
        route=found.origin + " " + found.dest,
        carrier_dest=found.carrier + " " + found.dest,
        origin_day=found.origin + " " + found.month.astype(str) + " " + found.day.astype(str),
        wind_east=np.sin(angle),
        wind_north=np.cos(angle),
    )


def convert(frame: pd.DataFrame, transforms: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers, float32 `[rows, F]`, and ids, int32 `[rows, K]`."""
    dense: list[np.ndarray] = []
    ids: list[np.ndarray] = []
    for fitted in transforms:
        values = frame[fitted["column"]]
        if fitted["kind"] == "numeric":
            dense += _numbers(values, fitted)
        elif fitted["kind"] == "vocabulary":
            found = pd.Index(fitted["vocabulary"]).get_indexer(values) + 2
            ids.append(np.where(values.isna(), 1, np.where(found < 2, 0, found)))
        else:
            for part in fitted["spec"]["parts"]:
                first, length = _CYCLES[part]
                position = getattr(values.dt, part.replace("day_of_year", "dayofyear")).to_numpy() - first
                if fitted["spec"]["encoding"] == "category":
                    ids.append(position + 1)
                else:
                    angle = position * (2 * np.pi / length)
                    dense += [np.sin(angle), np.cos(angle)]
    return np.stack(dense, axis=1).astype(np.float32), np.stack(ids, axis=1).astype(np.int32)


def _numbers(values: pd.Series, fitted: dict[str, Any]) -> list[np.ndarray]:
    numbers = values.to_numpy(np.float64)
    filled = np.where(np.isnan(numbers), fitted["fill"], numbers)
    if fitted["lower"] is not None or fitted["upper"] is not None:
        filled = np.clip(filled, fitted["lower"], fitted["upper"])
    if fitted["spec"]["log"]:
        filled = np.sign(filled) * np.log1p(np.abs(filled))
    scaled = (filled - fitted["offset"]) * fitted["factor"]
    return [scaled, np.isnan(numbers)] if fitted["spec"]["indicator"] else [scaled]


def predict(network: nn.Module, dense: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the probability of the positive class, float64 `[rows]`."""
    with torch.inference_mode():
        logits = network(dense=torch.from_numpy(dense), categorical=torch.from_numpy(ids))
        probability: np.ndarray = torch.sigmoid(logits[:, 0].double()).numpy()
    return probability


if __name__ == "__main__":
    main()
