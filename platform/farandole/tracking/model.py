"""Export of a trained network as an MLflow model that takes raw rows."""

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
from farandole.storage import file_uri

_REQUIREMENTS = ("numpy", "pandas", "pillow", "pyarrow", "pydantic", "PyYAML", "tokenizers", "torch", "xxhash")


def save_model(network: nn.Module, preprocessing: Preprocessing, job: Job, directory: Path) -> str | None:
    """Write the network with its preprocessing, signature and input example into an empty directory.

    Returns:
        The reason if the network could not be exported; None if it was.
    """
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    example = pd.DataFrame(preprocessing.example())
    with tempfile.TemporaryDirectory(prefix="farandole-model-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export and MLflow warn about their internals
        folder = Path(scratch)
        (folder / "preprocessing.json").write_text(json.dumps(preprocessing.to_dict()))
        problem = _write_network(network.cpu().eval(), preprocessing, job, folder)
        code = [str(Path(__file__).resolve().parents[1])]
        if problem is not None and not job.network.builder.startswith("farandole."):
            user_code = Path(job.folder or ".")
            packages = (init.parent for init in user_code.glob("*/__init__.py"))
            code += [str(path) for path in (*user_code.glob("*.py"), *packages)]
        mlflow.pyfunc.save_model(
            path=str(directory),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": file_uri(folder)},
            code_paths=code,
            signature=_signature(preprocessing),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", *_REQUIREMENTS)],
        )
    return problem


def _write_network(network: nn.Module, preprocessing: Preprocessing, job: Job, folder: Path) -> str | None:
    """Save the network as a torch.export program, which needs no user code; if that fails, as builder and weights.

    Returns:
        The reason if torch.export failed.
    """
    batch = preprocessing.raw_batch(preprocessing.example())
    # Two rows, since torch.export would specialize a batch size of one.
    groups = {
        name: torch.from_numpy(values).repeat_interleave(2, 0) for name, values in preprocessing.features(batch).items()
    }
    rows = torch.export.Dim("rows")
    try:
        shapes = ({name: {0: rows} for name in groups},)
        program = torch.export.export(_Exported(network), (groups,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, folder / "network.pt2")
    except Exception as error:  # noqa: BLE001 - the model is logged whatever error a user's forward causes in torch.export
        torch.save(network.state_dict(), folder / "weights.pt")
        builder = {"builder": job.network.builder, "options": job.network.options}
        (folder / "builder.json").write_text(json.dumps(builder))
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None


class _Exported(nn.Module):
    """A network that takes its groups as one mapping, since torch.export cannot describe the shapes of `**groups`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: dict[str, torch.Tensor]) -> torch.Tensor:
        """Apply the network to the groups."""
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
    """Return MLflow's type of a raw column; `raw_batch` casts to the exact type later.

    Integers are declared as any type: with a missing value, pandas converts them to floats, which MLflow rejects for an
    integer column, and a float column rejects integers. Arrays are too, since their numbers would need a single type.
    """
    if name in ("tinyint", "smallint", "int", "bigint") or name.startswith("array<"):
        return AnyType()  # type: ignore[no-untyped-call]
    if name in ("date", "timestamp", "timestamp_ntz"):
        return "datetime"
    return name if name in ("boolean", "string", "binary") else "double"
