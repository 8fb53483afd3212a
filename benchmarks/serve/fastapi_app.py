"""The baseline `fastapi`: a few lines around the model, as a person would write them. Environment: BUNDLE."""

from __future__ import annotations

import os
from typing import Any

import torch
from fastapi import FastAPI

from farandole.bundle import open_bundle

torch.set_num_threads(1)
predictor = open_bundle(os.environ["BUNDLE"]).predictor()
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    """Answer as soon as the model is loaded."""
    return {"status": "ready"}


@app.post("/predict")
def predict(row: dict[str, Any]) -> dict[str, Any]:
    """Predict one raw row."""
    batch = predictor.raw_batch({name: [value] for name, value in row.items()})
    predictions = predictor.predictions(predictor.outputs(predictor.features(batch)))
    return {name: values.tolist() for name, values in predictions.items()}
