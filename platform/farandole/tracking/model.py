"""Saves a trained network as an MLflow model that takes raw rows."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from torch import nn

from farandole.preprocess import Preprocessing
from farandole.spec import Job

_REQUIREMENTS = ("numpy", "pandas", "pillow", "pyarrow", "pydantic", "PyYAML", "tokenizers", "torch", "xxhash")


def save_model(network: nn.Module, preprocessing: Preprocessing, job: Job, directory: Path) -> str | None:
    """Write the network with its preprocessing, signature and input example into an empty directory.

    Returns:
        Why the network could not be exported (None if it was).
    """
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    example = pd.DataFrame(preprocessing.example())
    with tempfile.TemporaryDirectory(prefix="farandole-model-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.export and MLflow, about their own insides
        place = Path(scratch)
        (place / "preprocessing.json").write_text(json.dumps(preprocessing.to_dict()))
        problem = _write_network(network.cpu().eval(), preprocessing, job, place)
        code = [str(Path(__file__).resolve().parents[1])]
        if problem is not None and not job.network.builder.startswith("farandole."):
            folder = Path(job.folder or ".")
            code += [
                str(path) for path in (*folder.glob("*.py"), *(init.parent for init in folder.glob("*/__init__.py")))
            ]
        mlflow.pyfunc.save_model(
            path=str(directory),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": str(place)},
            code_paths=code,
            signature=_signature(preprocessing),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", *_REQUIREMENTS)],
        )
    return problem


def _write_network(network: nn.Module, preprocessing: Preprocessing, job: Job, place: Path) -> str | None:
    """As a program of torch.export, which needs none of the user's code; else as builder and weights."""
    batch = preprocessing.raw_batch(preprocessing.example())
    # Two rows: torch.export would take a batch of one for a batch of always one.
    groups = {
        name: torch.from_numpy(values).repeat_interleave(2, 0) for name, values in preprocessing.features(batch).items()
    }
    rows = torch.export.Dim("rows")
    try:
        shapes = ({name: {0: rows} for name in groups},)
        program = torch.export.export(_Exported(network), (groups,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, place / "network.pt2")
    except Exception as error:  # noqa: BLE001 - whatever a user's forward makes torch.export raise, the model is still logged
        torch.save(network.state_dict(), place / "weights.pt")
        made = {"builder": job.network.builder, "options": job.network.options}
        (place / "builder.json").write_text(json.dumps(made))
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None


class _Exported(nn.Module):
    """The network with its groups in one mapping: torch.export has no rule for the shapes of `**groups`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the network makes of the groups."""
        outputs: torch.Tensor = self.network(**groups)
        return outputs


def _signature(preprocessing: Preprocessing) -> ModelSignature:
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(_input_type(preprocessing.types[column]), column, required=False) for column in preprocessing.columns
    ]
    label = preprocessing.schema.target
    outputs: list[ColSpec | TensorSpec] = [ColSpec("double" if label.kind == "regression" else "string", "prediction")]
    if label.kind == "binary":
        outputs.append(ColSpec("double", "probability"))
    elif label.kind == "multiclass":
        outputs += [ColSpec("double", f"probability_{name}") for name in label.classes]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _input_type(name: str) -> Any:
    """MLflow's type for a raw column. `raw_batch` casts to the exact one later.

    Whole numbers are of any type: pandas makes floats of them where one is missing, which MLflow takes neither for
    whole numbers nor, without gaps, the other way round. So are arrays, whose numbers would have to be of one type.
    """
    if name in ("tinyint", "smallint", "int", "bigint") or name.startswith("array<"):
        return AnyType()  # type: ignore[no-untyped-call]
    if name in ("date", "timestamp", "timestamp_ntz"):
        return "datetime"
    return name if name in ("boolean", "string", "binary") else "double"
