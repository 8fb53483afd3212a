"""From a job file and overrides to a checked `Job`, or to one error that lists all that is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec.candidate import space_problems
from farandole.spec.job import Job
from farandole.spec.overrides import set_value
from farandole.spec.validation_errors import describe_errors


class _Loader(yaml.SafeLoader):
    """YAML as it is meant: a key that is written twice is a mistake, `1e-3` is a number, a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag.endswith(":merge"):
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, list | dict):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
        if key in seen:
            message = f"the key `{key}` is written twice; remove one"
            raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Args:
        path: The YAML file. Relative paths in it start from its own folder.
        overrides: `a.b=value` each, the value in YAML; later ones win.

    Raises:
        SpecError: The file cannot be read, or breaks rules; all of them are listed.
    """
    path = Path(path)
    raw = _read(path)
    for override in overrides:
        _override(raw, override)
    return parse_job(raw, folder=path.parent, place=str(path))


def parse_job(raw: dict[str, Any], *, folder: str | Path = ".", place: str = "job") -> Job:
    """Check a job that is given as plain data.

    Args:
        raw: What the job file holds, or what `Job.model_dump(mode="json")` gave.
        folder: Where relative paths start.
        place: What errors call this job.

    Raises:
        SpecError: It breaks rules; all of them are listed.
    """
    try:
        job = Job.model_validate(raw, context={"folder": str(folder)})
    except ValidationError as error:
        problems = [f"{place}: {problem}" for problem in describe_errors(error, raw)]
        raise SpecError("\n".join(problems)) from error
    problems = [f"{place}: {problem}" for problem in space_problems(job)]
    if problems:
        raise SpecError("\n".join(problems))
    return job


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; give the path of a job file") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: this is a directory; give the job file in it, for example {path}/job.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise SpecError(f"{path}: {line}{getattr(error, 'problem', None) or error}") from error
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: holds {type(raw).__name__}, not a mapping; start with `name: my-job`")
    return {key: _unshared(value) for key, value in raw.items()}


def _unshared(value: Any) -> Any:
    """The same data, each alias (`*name`) a copy of its own: an override changes one place, not all that share it."""
    if isinstance(value, dict):
        return {key: _unshared(child) for key, child in value.items()}
    return [_unshared(child) for child in value] if isinstance(value, list) else value


def _override(raw: dict[str, Any], override: str) -> None:
    """Put one `a.b=value` into the raw job."""
    keys, equals, text = override.partition("=")
    if not equals or not all(keys.split(".")):
        raise SpecError(f"--set {override}: write FIELD.FIELD=VALUE, for example --set train.epochs=2")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override}: {text!r} is not YAML; put quotes around it") from error
    set_value(raw, keys, value, f"--set {override}")
