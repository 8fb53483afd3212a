"""Base class and field types shared by every part of a job file: frozen models, strict keys, expanded paths."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, ValidationInfo

from farandole.storage import file_path, home, is_uri

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class SecretError(ValueError):
    """A rejected value that contains a secret; error messages must not repeat the value."""


class Spec(BaseModel):
    """Base class of every part. The docstring below a field is its description in the JSON Schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


INTERNAL: dict[str, JsonValue] = {"x-internal": True}
"""Marks, in a field's schema, what job files hold only once they were written by a program; nothing suggests it."""


def suggested_fields(model: type[BaseModel]) -> list[str]:
    """Return the names of the fields that a user may write."""
    return [name for name, field in model.model_fields.items() if field.json_schema_extra != INTERNAL]


def non_default_fields(spec: Spec, *names: str) -> list[str]:
    """Return those of the named fields whose values differ from their defaults.

    Values are compared, not `model_fields_set`: a job that was written out in full and read back must behave like the
    short one that the user wrote.
    """
    defaults = type(spec).model_fields
    return [name for name in names if getattr(spec, name) != defaults[name].get_default(call_default_factory=True)]


def expand_variables(text: str, environment: dict[str, str] | None = None) -> str:
    """Replace `${NAME}` and `${NAME:-default}`.

    Raises:
        ValueError: A variable is not set and has no default.
    """
    values = {**os.environ, "FARANDOLE_HOME": str(home())} if environment is None else environment

    def replace(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if values.get(name):
            return values[name]
        if default is not None:
            return default
        raise ValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")

    return _VARIABLE.sub(replace, text)


def resolve_path(path: str, info: ValidationInfo) -> str:
    """Expand variables and `~`, and make a relative path absolute, starting from the job file's folder."""
    if not path:
        raise ValueError("a path must not be empty")
    expanded = expand_variables(path)
    if expanded.startswith("file:/"):
        expanded = str(file_path(expanded))
    if is_uri(expanded):
        parts = urlsplit(expanded)
        if parts.password is not None or (parts.scheme == "s3" and parts.username is not None):
            raise SecretError(
                f"the {parts.scheme}:// URI contains credentials, and job files are stored and logged; set"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or use a profile"
            )
        return expanded
    folder: Any = (info.context or {}).get("folder")
    absolute = Path(folder or ".") / Path(expanded).expanduser()
    return os.path.normpath(absolute.absolute())


PathText = Annotated[str, AfterValidator(resolve_path)]
"""A path or URI: `~`, `${NAME}` and `${NAME:-default}` are expanded; relative to the job file's folder."""
