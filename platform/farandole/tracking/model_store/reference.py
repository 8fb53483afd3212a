"""The forms in which a command line names a model: a directory, a version, an alias, a logged model or a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from farandole.errors import RegistryError
from farandole.storage import file_path, is_uri

LATEST = "latest"
"""The version of `models:/NAME/latest`: the newest one, as in MLflow."""
FORMS = "a bundle's directory, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/model"
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})")
_REGISTERED = re.compile(r"(?P<name>[^/@:]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[^/@]+))?")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<name>[^/]+)")


@dataclass(frozen=True)
class ModelReference:
    """A parsed name of a model; exactly one of `directory`, `name`, `logged_model` and `run_id` is set.

    Args:
        text: The name in its canonical form, for messages and as a key of the cache.
        directory: A directory of this machine.
        name: The name of a registered model.
        version: Its version: a number, or `latest`.
        alias: Or its alias.
        logged_model: The id of a model that was logged and need not be registered.
        run_id: The id of the run that logged the model.
        logged_name: The name under which the run logged it; `model` stands for the only one.
    """

    text: str
    directory: Path | None = None
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    logged_model: str | None = None
    run_id: str | None = None
    logged_name: str | None = None


def parse_model(text: str) -> ModelReference:
    """Parse the argument MODEL of a command.

    Raises:
        RegistryError: The text has none of the forms.
    """
    if match := _LOGGED_MODEL.fullmatch(text):
        return ModelReference(text, logged_model=match[1])
    if match := _RUN.fullmatch(text):
        return ModelReference(text, run_id=match["run"], logged_name=match["name"])
    if text.startswith("models:/"):
        reference = parse_registered(text)
        if reference.version is None and reference.alias is None:
            raise RegistryError(
                f"{text}: names neither a version nor an alias; write {text}/1, {text}@champion or {text}/{LATEST}"
            )
        return reference
    if text.startswith("file://"):
        return ModelReference(text, directory=file_path(text))
    if is_uri(text) or text.startswith("runs:/") or not text:
        raise RegistryError(f"{text or 'an empty text'}: is not the name of a model; it may be {FORMS}")
    return ModelReference(text, directory=Path(text).absolute())


def parse_registered(text: str) -> ModelReference:
    """Parse `NAME`, `NAME/VERSION` or `NAME@ALIAS`, with or without `models:/`.

    Raises:
        RegistryError: The text has none of the forms.
    """
    match = _REGISTERED.fullmatch(text.removeprefix("models:/"))
    if match is None:
        raise RegistryError(
            f"{text}: is not the name of a registered model; it may be NAME, NAME/VERSION or NAME@ALIAS"
        )
    return ModelReference(f"models:/{match[0]}", name=match["name"], version=match["version"], alias=match["alias"])
