"""Reading and writing of job files: YAML and overrides to a checked `Job`, or to one error that lists all problems."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.process.atomic import write_atomic
from farandole.spec.job import Job
from farandole.spec.overrides import set_value, sweep_problems
from farandole.spec.validation_errors import describe_errors
from farandole.storage import home


class _Loader(yaml.SafeLoader):
    """YAML loader without surprises: a duplicate key is an error, `1e-3` is a number, a date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
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


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


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
        _apply_override(raw, override)
    return parse_job(raw, folder=path.parent, origin=str(path))


def parse_job(raw: dict[str, Any], *, folder: str | Path = ".", origin: str = "job") -> Job:
    """Check a job that is given as plain data.

    Args:
        raw: The content of a job file, or the result of `Job.model_dump(mode="json")`.
        folder: Where relative paths start.
        origin: The prefix of each line of an error, such as the path of the job file.

    Raises:
        SpecError: The job breaks rules; all of them are listed.
    """
    try:
        job = Job.model_validate(raw, context={"folder": str(folder)})
    except ValidationError as error:
        problems = [f"{origin}: {problem}" for problem in describe_errors(error, raw)]
        raise SpecError("\n".join(problems)) from error
    problems = [f"{origin}: {problem}" for problem in sweep_problems(job)]
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
        raise SpecError(f"{path}: contains {type(raw).__name__}, not a mapping; start with `name: my-job`")
    return {key: _copy_aliases(value) for key, value in raw.items()}


def _copy_aliases(value: Any) -> Any:
    """Copy the data so that each YAML alias (`*name`) becomes a separate copy, and an override changes only one."""
    if isinstance(value, dict):
        return {key: _copy_aliases(child) for key, child in value.items()}
    return [_copy_aliases(child) for child in value] if isinstance(value, list) else value


def _apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in the raw job."""
    keys, equals, text = override.partition("=")
    if not equals or not all(keys.split(".")):
        raise SpecError(f"--set {override}: write FIELD.FIELD=VALUE, for example --set train.epochs=2")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override}: {text!r} is not YAML; put quotes around it") from error
    set_value(raw, keys, value, f"--set {override}")


class _Dumper(yaml.SafeDumper):
    """YAML dumper for readers: short mappings on one line, multi-line text as a block."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def save_job(job: Job, path: str | Path) -> Path:
    """Write a job file that `load_job` reads as the same job. Fields with their default value are left out.

    Args:
        job: The job.
        path: The file; an existing one is replaced.

    Returns:
        The absolute path of the file.

    Raises:
        SpecError: The file cannot be written.
    """
    path = Path(path).absolute()
    try:
        write_atomic(path, job_text(job, path.parent))
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror or error}); choose another path") from error
    return path


def job_text(job: Job, folder: Path | None = None) -> str:
    """Return a job as YAML, without the fields that have their defaults in a file of this folder."""
    content = non_default_content(job, folder)
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


def non_default_content(job: Job, folder: Path | None = None) -> dict[str, Any]:
    """Return the fields of a job that differ from their defaults in a file of this folder."""
    raw: dict[str, Any] = job.model_dump(mode="json", exclude_defaults=True)
    for name, source in job.data.sources.items():  # the path need not reveal the format
        raw["data"]["sources"][name] = {"format": source.format, **raw["data"]["sources"][name]}
    # Defaults that depend on the job's name, the machine and the folder of the file.
    if job.data.output == str(home() / "datasets" / job.name):
        del raw["data"]["output"]
    if job.folder == str(folder):
        raw.pop("folder", None)
    for field in ("register_as", "experiment"):
        if getattr(job.tracking, field) == job.name:
            del raw["tracking"][field]
    return {part: value for part, value in raw.items() if value != {}}
