"""A job with other values: what a sweep tries, and whether all that it may try is allowed."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec.job import Job
from farandole.spec.overrides import set_value
from farandole.spec.validation_errors import describe_errors


def with_overrides(job: Job, values: dict[str, Any]) -> Job:
    """The job with some fields changed, and without its sweep.

    Args:
        job: The job.
        values: Dotted path to value.

    Raises:
        SpecError: A value, or the values together, break a rule.
    """
    raw = job.model_dump(mode="json", exclude={"sweep"})
    for path, value in values.items():
        set_value(raw, path, value, f"sweep.space.{path}")
    try:
        return Job.model_validate(raw, context={"folder": job.folder})
    except ValidationError as error:
        raise SpecError("\n".join(describe_errors(error, raw))) from error


def space_problems(job: Job) -> list[str]:
    """What is wrong with a sweep's space: fields that do not exist, values that a field refuses."""
    if job.sweep is None:
        return []
    problems = []
    for path, dimension in job.sweep.space.items():
        for value in dimension.ends:
            try:
                with_overrides(job, {path: value})
            except SpecError as error:
                problems += [f"sweep.space.{path}: {value!r} is refused: {line}" for line in str(error).splitlines()]
                break
    return problems
