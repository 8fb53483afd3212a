"""`ui`, `sync`, `schema` and `doctor`: tools around jobs."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from farandole.cli.completion import ids_to_send, job_files
from farandole.cli.help import PlainCommand

_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Environment variables one of which is set where a browser can be shown."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (ui, sync):
        app.command(cls=PlainCommand, rich_help_panel="MLflow")(command)
    app.command(cls=PlainCommand, rich_help_panel="This machine, and editors")(doctor)
    app.command(cls=PlainCommand, rich_help_panel="This machine, and editors")(schema)


def ui(
    job_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="JOB.yaml", help="Show the runs of this job.", show_default=False, autocompletion=job_files
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="The port to listen on.")] = 5000,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
) -> None:
    """Open MLflow's UI in the browser, at the runs of a job or else at the newest ones."""
    from farandole.spec import Tracking, load_job
    from farandole.tracking.store import resolve_store
    from farandole.tracking.ui import runs_page, serve_ui

    tracking = load_job(job_file).tracking if job_file else Tracking()
    experiment = tracking.experiment if job_file else None

    def show(page: str) -> None:
        print(f"MLflow: {page}" + ("" if store.is_server else " (Ctrl-C ends it)"), file=sys.stderr)
        if browser and (sys.platform == "darwin" or any(map(os.environ.get, _SCREENS))):
            webbrowser.open(page)

    store = resolve_store(tracking)
    if store.is_server:
        show(runs_page(store.shown, experiment))
        return
    with suppress(KeyboardInterrupt):
        serve_ui(store, host, port, experiment, show)


def sync(
    job: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Only this job or sweep.", show_default=False, autocompletion=ids_to_send),
    ] = None,
    uri: Annotated[
        str | None, typer.Option(metavar="URI", help="The store's address, if it has moved.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Send to MLflow the records that jobs kept while it did not answer."""
    from farandole.cli import render
    from farandole.cli.progress import event_display
    from farandole.tracking.sync import sync as send

    with event_display() as on_event:
        results = send(job, uri=uri, on_event=on_event)
    render.show_synced(results, as_json=as_json)
    if any(result.unsent for result in results):
        sys.exit(3)


def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from farandole.spec import Job

    print(json.dumps(Job.model_json_schema(), indent=2))


def doctor(
    hosts: Annotated[
        Path | None,
        typer.Option(
            "--hosts",
            metavar="JOB.yaml",
            help="Check the hosts of this job instead.",
            show_default=False,
            autocompletion=job_files,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check this machine (Java, Spark, Horovod, torch, MLflow, disk), or the hosts of a job."""
    from farandole.cli import render
    from farandole.cli.doctor import check_hosts, check_machine

    findings = check_machine() if hosts is None else check_hosts(hosts)
    render.show_findings(findings, as_json=as_json)
    if not all(finding.ok for finding in findings):
        sys.exit(3)
