"""Calls the user's model builder and checks what it gives."""

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
    """The network that `model.builder` makes for a dataset.

    Raises:
        ModelError: The builder cannot be imported, raises, or returns no module with parameters that learn.
    """
    place = f"model.builder: {job.network.builder}"
    builder = import_user_function(job.network.builder, job.folder, "model.builder")
    try:
        model = builder(schema, **job.network.options)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ModelError(
            f"{place}: raised {_one_line(error)} in {where.filename}, line {where.lineno}; options were"
            f" {job.network.options}",
            detail=traceback.format_exc(),
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{place}: returned {type(model).__name__}; return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{place}: returned a module without parameters that learn; nothing could be trained")
    return model


def import_user_function(reference: str, folder: str | None, field: str) -> Callable[..., Any]:
    """A function of the user's.

    Args:
        reference: `module:function`.
        folder: Where the user's modules lie.
        field: Which field of the job file names it.

    Raises:
        ModelError: It cannot be imported.
    """
    module_name, function_name = reference.split(":")
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:
        text = f"{field}: {reference}: cannot be imported: {_one_line(error)}"
        raise ModelError(text, detail=traceback.format_exc()) from error
    return function


def user_code_error(error: Exception, place: str) -> ModelError:
    """What to say of an exception that a function of the user's raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{place}: raised {_one_line(error)} in {where.filename}, line {where.lineno}"
    return ModelError(text, detail=traceback.format_exc())


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
