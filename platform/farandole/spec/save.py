"""From a checked `Job` back to a job file, for those who build jobs in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from farandole.errors import SpecError
from farandole.process.atomic import write_atomic
from farandole.spec.base import home
from farandole.spec.job import Job


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: short mappings on one line, a text of several lines as a block."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def save_job(job: Job, path: str | Path) -> Path:
    """Write a job file that `load_job` reads as the same job. What has its default value is left out.

    Args:
        job: The job.
        path: The file; one that is there is replaced.

    Raises:
        SpecError: The file cannot be written.
    """
    path = Path(path).absolute()
    text = yaml.dump(_raw(job, path.parent), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    return path


def _raw(job: Job, folder: Path) -> dict[str, Any]:
    """What the job file says."""
    raw: dict[str, Any] = job.model_dump(mode="json", exclude_defaults=True)
    for name, source in job.data.sources.items():  # a path need not tell the format
        raw["data"]["sources"][name] = {"format": source.format, **raw["data"]["sources"][name]}
    # Defaults that depend on the job's name, the machine and the place of the file.
    if job.data.output == str(home() / "datasets" / job.name):
        del raw["data"]["output"]
    if job.folder == str(folder):
        raw.pop("folder", None)
    if job.tracking.register_as == job.name:
        del raw["tracking"]["register_as"]
    return {part: value for part, value in raw.items() if value != {}}
