"""`farandole sweep`: trains a job with many values and finds the best."""

from __future__ import annotations

from typing import Annotated

import typer

from farandole.cli.help import PlainCommand
from farandole.cli.pipeline import AsJson, JobFile, Overrides


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Run a job")(sweep)


def sweep(
    job_file: JobFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest sweep of this job.")] = False,
) -> None:
    """Prepare once, train with many values, and write the job file of the best."""
    from farandole import api
    from farandole.cli import render
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    job = load_job(job_file, overrides or ())
    with event_display() as on_event:
        result = api.sweep(job, on_event, resume=resume)
    render.show_sweep(job, result, as_json=as_json)
