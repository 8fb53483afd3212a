"""Calls of user code: import of functions that the job file names, and the model builder."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

from torch import nn

from farandole.errors import ModelError
from farandole.shards import Schema
from farandole.spec import Job


def build_model(job: Job, schema: Schema) -> nn.Module:
    """Build the network for a dataset by calling `model.builder`.

    Raises:
        ModelError: The builder cannot be imported, raises, or returns no module with trainable parameters.
    """
    field_path = f"model.builder: {job.network.builder}"
    builder = import_user_function(job.network.builder, job.folder, "model.builder")
    try:
        model = builder(schema, **job.network.options)
    except Exception as error:
        raise user_code_error(error, field_path, f"; options were {job.network.options}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{field_path}: returned {type(model).__name__}; return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{field_path}: returned a module without trainable parameters; nothing could be trained")
    return model


def import_user_function(reference: str, folder: str | None, field_path: str) -> Callable[..., Any]:
    """Import a function of the user.

    Args:
        reference: `module:function`.
        folder: Folder of the user's modules.
        field_path: Field of the job file that names the function.

    Raises:
        ModelError: The function cannot be imported.
    """
    module_name, function_name = reference.split(":")
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:
        text = f"{field_path}: {reference}: cannot be imported: {_one_line(error)}"
        raise ModelError(text, detail=traceback.format_exc()) from error
    return function


def user_code_error(error: Exception, field_path: str, hint: str = "") -> ModelError:
    """Return the error that reports an exception raised by a function of the user.

    Args:
        error: The exception.
        field_path: Field of the job file, and the function that it names.
        hint: End of the message.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{field_path}: raised {_one_line(error)} in {frame.filename}, line {frame.lineno}{hint}"
    return ModelError(text, detail=traceback.format_exc())


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
