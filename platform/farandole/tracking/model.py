"""Export of a trained network as an MLflow model that takes raw rows."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from mlflow.utils import requirements_utils
from torch import nn

from farandole.preprocess import Preprocessing, find_forms
from farandole.spec import Job
from farandole.storage import file_uri

_REQUIREMENTS = ("numpy", "pandas", "pillow", "pyarrow", "pydantic", "PyYAML", "tokenizers", "torch", "xxhash")


def save_model(network: nn.Module, preprocessing: Preprocessing, job: Job, directory: Path) -> str | None:
    """Write the network with its preprocessing, signature and input example into an empty directory.

    Returns:
        The reason if the network could not be exported; None if it was.
    """
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    example = _json_example(preprocessing)
    with (
        tempfile.TemporaryDirectory(prefix="farandole-model-") as scratch,
        warnings.catch_warnings(),
        _requirements_not_compared(),
    ):
        warnings.simplefilter("ignore")  # torch.export and MLflow warn about their internals
        folder = Path(scratch)
        (folder / "preprocessing.json").write_text(json.dumps(preprocessing.to_dict()))
        forms = find_forms(job.data.sources, preprocessing.columns)
        (folder / "rows.json").write_text(json.dumps({name: form.to_dict() for name, form in forms.items()}))
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
            metadata={"columns": {column: preprocessing.types[column] for column in preprocessing.columns}},
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", *_REQUIREMENTS)],
        )
    return problem


@contextmanager
def _requirements_not_compared() -> Iterator[None]:
    """Keep MLflow from listing the modules of all installed packages, which takes a second.

    It does so to compare the requirements with what is installed, of which they are a copy. A version of MLflow without
    this cache is not affected.
    """
    cache = "_MODULES_TO_PACKAGES"
    if getattr(requirements_utils, cache, ...) is not None:
        yield
        return
    setattr(requirements_utils, cache, {})
    try:
        yield
    finally:
        setattr(requirements_utils, cache, None)


def _json_example(preprocessing: Preprocessing) -> pd.DataFrame:
    """Return one row of values that JSON has, in which MLflow stores it."""
    row = preprocessing.example()
    return pd.DataFrame(
        {name: [float(value) if isinstance(value, Decimal) else value for value in row[name]] for name in row}
    )


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
    """Return the signature: the raw columns, of any type.

    MLflow's own types would reject rows of the source before the model sees them: whole numbers with gaps, times with
    zones, categories, numbers in a column of text. The model converts each value to the column's type, or rejects it.
    """
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), column, required=False)  # type: ignore[no-untyped-call]
        for column in preprocessing.columns
    ]
    label = preprocessing.schema.target
    outputs: list[ColSpec | TensorSpec] = [ColSpec("double" if label.kind == "regression" else "string", "prediction")]
    if label.kind == "binary":
        outputs.append(ColSpec("double", "probability"))
    elif label.kind == "multiclass":
        outputs += [ColSpec("double", f"probability_{name}") for name in label.classes]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
