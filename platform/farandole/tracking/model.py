"""Export of a trained network as an MLflow model that takes raw rows."""

from __future__ import annotations

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
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from mlflow.utils import requirements_utils
from torch import nn

from farandole.bundle import BundleContents, write_bundle
from farandole.bundle.documents import TrainingRecord, training_documents
from farandole.preprocess import Preprocessing, find_forms
from farandole.spec import Job, Redact
from farandole.storage import file_uri

_REQUIREMENTS = (
    "numpy",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "PyYAML",
    "safetensors",
    "tokenizers",
    "torch",
    "xxhash",
)
_REDACTION_REQUIREMENTS = ("phonenumberslite", "python-stdnum")


def save_model(
    network: nn.Module,
    preprocessing: Preprocessing,
    job: Job,
    directory: Path,
    record: TrainingRecord | None = None,
) -> str | None:
    """Write the network with its preprocessing, signature and input example into an empty directory.

    Args:
        network: The network.
        preprocessing: The fitted preprocessing.
        job: The job.
        directory: The directory of the MLflow model.
        record: The training, for the documents of the bundle; None: it has none.

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
        folder = Path(scratch) / "bundle"
        problem = write_bundle(folder, network, bundle_contents(preprocessing, job, record))
        mlflow.pyfunc.save_model(
            path=str(directory),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": file_uri(folder)},
            code_paths=[str(Path(__file__).resolve().parents[1])],
            signature=_signature(preprocessing),
            input_example=example,
            metadata={"columns": {column: preprocessing.types[column] for column in preprocessing.columns}},
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _requirements(job)],
        )
    return problem


def bundle_contents(preprocessing: Preprocessing, job: Job, record: TrainingRecord | None = None) -> BundleContents:
    """Return what the bundle of a job's model is made of."""
    folder = Path(job.folder or ".")
    return BundleContents(
        name=job.name,
        builder=job.network.builder,
        options=job.network.options,
        preprocessing=preprocessing,
        row_forms=find_forms(job.data.sources, preprocessing.columns),
        documents=training_documents(record) if record is not None else {},
        code=(*folder.glob("*.py"), *(init.parent for init in folder.glob("*/__init__.py"))),
    )


def _requirements(job: Job) -> tuple[str, ...]:
    """Return the packages that the logged model imports: for a policy of its job, what searches texts as well."""
    redacts = any(isinstance(policy, Redact) for policy in job.data.privacy.columns.values())
    return ("mlflow", *_REQUIREMENTS, *(_REDACTION_REQUIREMENTS if redacts else ()))


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
