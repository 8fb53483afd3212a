"""Changing fields of a job by their dotted paths: `--set` of the command line, and the trials of sweeps."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec.job import Job
from farandole.spec.validation_errors import describe_errors


def set_value(raw: dict[str, Any], field_path: str, value: Any, origin: str) -> None:
    """Set `a.b` in nested mappings and lists; missing mappings on the way are created.

    Args:
        raw: The data; changed in place.
        field_path: Keys and list indexes, joined by dots.
        value: The new value.
        origin: What the user wrote, as a prefix of errors.

    Raises:
        SpecError: The path leads through a scalar, or beyond the end of a list.
    """
    *parents, last = field_path.split(".")
    node: Any = raw
    for depth, key in enumerate(parents):
        index = _index(node, key, origin, ".".join(parents[:depth]))
        known = index in node if isinstance(node, dict) else True
        if not known or node[index] is None:
            node[index] = {}
        node = node[index]
    node[_index(node, last, origin, ".".join(parents))] = value


def _index(node: Any, key: str, origin: str, field_path: str) -> Any:
    """Return what `key` selects: a key of a mapping, which may be new, or an existing index of a list."""
    if isinstance(node, dict):
        return key
    if isinstance(node, list):
        if not (key.isascii() and key.isdecimal()) or int(key) >= len(node):
            raise SpecError(f"{origin}: {field_path} is a list of {len(node)}; {key} is not an index of it")
        return int(key)
    raise SpecError(f"{origin}: {field_path} is the value {node!r}, which has no field {key}")


def with_overrides(job: Job, values: dict[str, Any]) -> Job:
    """Return the job with some fields changed, and without its sweep.

    Args:
        job: The job.
        values: Dotted field path to value.

    Raises:
        SpecError: A value, or the combination of values, breaks a rule.
    """
    raw = job.model_dump(mode="json", exclude={"sweep"})
    for field_path, value in values.items():
        set_value(raw, field_path, value, f"sweep.space.{field_path}")
    try:
        return Job.model_validate(raw, context={"folder": job.folder})
    except ValidationError as error:
        raise SpecError("\n".join(describe_errors(error, raw))) from error


def sweep_problems(job: Job) -> list[str]:
    """Return the errors in a sweep's search space: fields that do not exist, values that a field rejects."""
    if job.sweep is None:
        return []
    problems = []
    for field_path, dimension in job.sweep.space.items():
        for value in dimension.extremes:
            try:
                with_overrides(job, {field_path: value})
            except SpecError as error:
                lines = str(error).splitlines()
                problems += [f"sweep.space.{field_path}: {value!r} is rejected: {line}" for line in lines]
                break
    return problems
