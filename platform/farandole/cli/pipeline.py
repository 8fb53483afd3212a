"""`plan`, `run`, `prepare` and `train`, the commands that take a job file."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from farandole.cli.completion import backends, foreground_job_ids, job_files
from farandole.cli.completion import overrides as field_overrides
from farandole.cli.help import PlainCommand
from farandole.errors import SpecError

JobFile = Annotated[
    Path, typer.Argument(metavar="JOB.yaml", help="The job file.", show_default=False, autocompletion=job_files)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a field, for example train.epochs=2. Repeatable.",
        autocompletion=field_overrides,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")]
RegisterAnyway = Annotated[
    bool, typer.Option("--register-anyway", help="Register the model even if it does not beat the trivial baseline.")
]
Force = Annotated[bool, typer.Option("--force", help="Prepare the dataset even if nothing has changed.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the newest job of this name from its last checkpoint.")
]
ResumeId = Annotated[
    str | None,
    typer.Option(
        "--resume-id",
        metavar="ID",
        help="Continue this job instead of the newest one of its name.",
        show_default=False,
        autocompletion=foreground_job_ids,
    ),
]

_CREDENTIALS = re.compile(r"//[^/@\s]+@")
"""User and password in a URI, which no file and no screen shows."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (plan, run, prepare, train):
        app.command(cls=PlainCommand, rich_help_panel="Run a job")(command)


def run(
    job_file: JobFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    force: Force = False,
    resume: Resume = False,
    resume_id: ResumeId = None,
    register_anyway: RegisterAnyway = False,
) -> None:
    """Prepare, train, evaluate and register, in the foreground."""
    from farandole import api
    from farandole.cli import render
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    job = load_job(job_file, [*(overrides or ()), *_anyway(register_anyway)])
    with event_display() as on_event:
        command = _resume_command("run", job_file, overrides, *(["--register-anyway"] if register_anyway else []))
        result = api.run(job, on_event, force=force, resume=resume_id or resume, resume_command=command)
    render.show_training(job_file, job, result.trained, as_json=as_json)


def _resume_command(command: str, job_file: Path, overrides: list[str] | None, *options: str) -> str:
    """Return the command that continues a job which fails, from any directory, and without the job's id at its end."""
    from farandole.cli.render import command as program

    changes = [text for override in overrides or () for text in ("--set", _CREDENTIALS.sub("//", override))]
    return shlex.join([program(), command, str(job_file.absolute()), *changes, *options, "--resume-id"])


def prepare(job_file: JobFile, overrides: Overrides = None, as_json: AsJson = False, force: Force = False) -> None:
    """Create the dataset, or reuse it where nothing has changed."""
    from farandole import api
    from farandole.cli import render
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    job = load_job(job_file, overrides or ())
    with event_display() as on_event:
        prepared = api.prepare(job, on_event, force=force)
    render.show_dataset(job_file, job, prepared, as_json=as_json)


def train(
    job_file: JobFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    register: Annotated[bool, typer.Option("--register", help="Add a version to the registered model.")] = False,
    resume: Resume = False,
    resume_id: ResumeId = None,
    register_anyway: RegisterAnyway = False,
    profile: Annotated[bool, typer.Option("--profile", help="Write a torch trace and Horovod's timeline.")] = False,
) -> None:
    """Train on the dataset that has been prepared."""
    from farandole import api
    from farandole.cli import render
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    settings = [*_anyway(register_anyway), *(["train.profile=true"] if profile else [])]
    job = load_job(job_file, [*(overrides or ()), *settings])
    with event_display() as on_event:
        options = [*(["--register"] if register else []), *(["--register-anyway"] if register_anyway else [])]
        command = _resume_command("train", job_file, overrides, *options)
        trained = api.train(
            job,
            on_event,
            register=register or register_anyway,
            resume=resume_id or resume,
            resume_command=command,
        )
    render.show_training(job_file, job, trained, as_json=as_json)


def plan(
    job_file: JobFile,
    overrides: Overrides = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="List the objects that this backend would create.",
            autocompletion=backends,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the job file and show what would happen; nothing is written or started."""
    from farandole.cli import render
    from farandole.planning import Plan
    from farandole.planning import plan as plan_job
    from farandole.spec import load_job

    try:
        chosen = [] if backend is None else [f"backend.use={backend}"]
        found = plan_job(load_job(job_file, [*(overrides or ()), *chosen]))
    except SpecError as error:
        if not as_json:
            raise
        found = Plan(problems=tuple(str(error).splitlines()))
    render.show_plan(found, as_json=as_json)
    if found.problems:
        sys.exit(2)


def _anyway(register_anyway: bool) -> list[str]:
    return ["tracking.register_anyway=true"] if register_anyway else []
