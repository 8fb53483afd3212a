"""Reading and writing of job files: YAML and overrides to a checked `Job`, or to one error that lists all problems."""

from __future__ import annotations

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
from farandole.spec.yaml_reader import Document, decode_text, read_yaml
from farandole.storage import home


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Args:
        path: The YAML file. Relative paths in it start from its own folder.
        overrides: `a.b=value` each, the value in YAML; later ones win.

    Raises:
        SpecError: The file cannot be read, or breaks rules; all of them are listed.
    """
    path = Path(path)
    document = _read(path)
    raw = _copy_aliases(document.value)
    for override in overrides:
        _apply_override(raw, override)
    try:
        return parse_job(raw, folder=path.parent, origin=str(path))
    except SpecError as error:
        changed = tuple(override.partition("=")[0] for override in overrides)
        raise SpecError(
            "\n".join(_with_line(line, str(path), document, changed) for line in str(error).splitlines())
        ) from error


def _with_line(problem: str, path: str, document: Document, changed: tuple[str, ...]) -> str:
    """Return a problem with the line of its field in the job file, unless an option has set the field."""
    field_path = problem.removeprefix(f"{path}: ").partition(": ")[0]
    line = None if field_path.startswith(changed) else document.line_of(field_path)
    return problem if line is None else f"{problem} (line {line})"


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


def _read(path: Path) -> Document:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; give the path of a job file") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: this is a directory; give the job file in it, for example {path}/job.yaml") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror or error})") from error
    document = read_yaml(decode_text(content, path), str(path))
    if not isinstance(document.value, dict):
        found = "is empty" if document.value is None else f"holds {_kind_of(document.value)}, not fields"
        raise SpecError(f"{path}: {found}; start with `name: my-job`")
    return document


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a number")


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
    origin = f"--set {override}"
    value = read_yaml(text, origin, keys.rpartition(".")[2]).value
    set_value(raw, keys, value, origin)


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
