"""What all parts of a job file share: frozen, unknown keys refused, paths that know where they are written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

from farandole.storage import is_uri

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class SecretError(ValueError):
    """A value that holds a secret: no error text may repeat it."""


class Spec(BaseModel):
    """The base of every part. The docstring under a field is its description in the JSON Schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def non_default_fields(spec: Spec, *names: str) -> list[str]:
    """Those of the fields that differ from their defaults: a spec that was written out in full and read again
    says the same as the short one that the user wrote."""
    return [name for name in names if getattr(spec, name) != type(spec).model_fields[name].default]


def home() -> Path:
    """Where datasets, jobs and the default MLflow store live: `$FARANDOLE_HOME`, or `~/.farandole`."""
    return Path(os.environ.get("FARANDOLE_HOME") or "~/.farandole").expanduser().absolute()


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


def _resolve(path: str, info: ValidationInfo) -> str:
    """Expand variables and `~`; make a relative path absolute, from the job file's own folder."""
    if not path:
        raise ValueError("a path must not be empty")
    expanded = expand_variables(path)
    if expanded.startswith("file://"):
        expanded = unquote(urlsplit(expanded).path)
    if is_uri(expanded):
        parts = urlsplit(expanded)
        if parts.password is not None or (parts.scheme == "s3" and parts.username is not None):
            raise SecretError(
                f"the {parts.scheme}:// URI holds credentials, and job files are stored and logged; set"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or use a profile"
            )
        return expanded
    folder: Any = (info.context or {}).get("folder")
    absolute = Path(folder or ".") / Path(expanded).expanduser()
    return os.path.normpath(absolute.absolute())


PathText = Annotated[str, AfterValidator(_resolve)]
"""A path or URI: `~`, `${NAME}` and `${NAME:-default}` are expanded; relative to the job file's folder."""
