"""`submit`, and what is done with jobs that were submitted: `jobs`, `status`, `logs`, `cancel`, `retry`."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.pipeline import AsJson, JobFile, Overrides
from farandole.errors import SpecError, closest_match

if TYPE_CHECKING:
    from farandole.backends.protocol import JobStatus

_POLL_S = 1.0
_INTERRUPTED = 130
_STATES = ("queued", "running", "succeeded", "failed", "cancelled")


def _known_ids(incomplete: str) -> list[str]:
    """For the shell's completion: the jobs that were submitted from here."""
    from farandole.backends.records import JobDatabase
    from farandole.storage import home

    records = JobDatabase(home())
    return [job_id for job_id in records.ids() if job_id.startswith(incomplete)] if records.path.exists() else []


JobId = Annotated[
    str, typer.Argument(metavar="ID", help="The job's id.", show_default=False, autocompletion=_known_ids)
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend", metavar="NAME", help="local, hosts or kubernetes. Default: where it was submitted to from here."
    ),
]
Context = Annotated[str | None, typer.Option(help="Of kubernetes: the context of the kubeconfig.", show_default=False)]
Namespace = Annotated[str | None, typer.Option(help="Of kubernetes: the namespace.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (submit, jobs, status, logs, cancel, retry):
        app.command()(command)


def submit(
    job_file: JobFile,
    overrides: Overrides = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar="NAME", help="local, hosts or kubernetes. Default: the job file's, local."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option(help="Of jobs that wait, the highest begins first.", show_default="the job file's, 0")
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Run so many jobs at once from now on.", envvar="FARANDOLE_SLOTS", show_default="1"),
    ] = None,
    context: Context = None,
    namespace: Namespace = None,
    queue: Annotated[str | None, typer.Option(help="Of kubernetes: the queue of Kueue.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the job has ended: 0 if well, 1 if not.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="The same, and show its log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hand the job to a backend, and return at once; it prepares, trains, evaluates and registers without you."""
    from farandole import api
    from farandole.cli import render
    from farandole.spec import load_job

    fields = {
        "backend.use": backend,
        "backend.priority": priority,
        "backend.kubernetes.context": context,
        "backend.kubernetes.namespace": namespace,
        "backend.kubernetes.queue": queue,
    }
    chosen = [f"{field}={value}" for field, value in fields.items() if value is not None]
    submitted = api.submit(load_job(job_file, [*(overrides or ()), *chosen]), slots=slots)
    render.show_submitted(submitted, as_json=as_json)
    if wait or follow:
        _wait(submitted.id, follow=follow)


def jobs(
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help=f"Only these: {', '.join(_STATES)}. Repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest first.")] = 50,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """List the submitted jobs, the newest first."""
    from farandole import api
    from farandole.cli import render
    from farandole.cli.progress import event_display

    for wanted in state or ():
        if wanted not in _STATES:
            close = closest_match(wanted, list(_STATES))
            hint = f"did you mean {close}?" if close else f"there are {', '.join(_STATES)}"
            raise SpecError(f"--state: {wanted}: there is no such state; {hint}")
    name, location = _where(backend, context, namespace)
    with event_display() as on_event:
        found = api.jobs(on_event, backend=name, location=location)
    chosen = [job for job in found if not state or job.state in state]
    render.show_jobs(chosen[:limit], len(chosen), as_json=as_json)


def status(
    job_id: JobId,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Show where a job stands, and why."""
    from farandole import api
    from farandole.cli import render

    name, location = _where(backend, context, namespace)
    render.show_status(api.status(job_id, backend=name, location=location), as_json=as_json)


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    rank: Annotated[
        int | None, typer.Option(min=0, help="What this worker wrote, over all attempts.", show_default=False)
    ] = None,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show a job's log: its stages, progress and failures; or that of one of its workers."""
    from farandole import api

    name, location = _where(backend, context, namespace)
    _print_lines(job_id, api.logs(job_id, rank=rank, follow=follow, backend=name, location=location))


def cancel(
    job_id: JobId,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """End a job and all that it started; a training saves its state first."""
    from farandole import api
    from farandole.cli import render

    name, location = _where(backend, context, namespace)
    render.show_status(api.cancel(job_id, backend=name, location=location), as_json=as_json)


def retry(
    job_id: JobId,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Let a job that failed or was cancelled go on from its last checkpoint: same id, same MLflow run."""
    from farandole import api
    from farandole.cli import render

    name, location = _where(backend, context, namespace)
    render.show_submitted(api.retry(job_id, backend=name, location=location), as_json=as_json)


def _where(backend: str | None, context: str | None, namespace: str | None) -> tuple[str | None, dict[str, Any] | None]:
    """Return the backend and the location that the options select."""
    from farandole.backends.registry import select_backend

    return select_backend(backend, {"context": context, "namespace": namespace})


def _wait(job_id: str, *, follow: bool) -> None:
    """Stay until a job has ended, and end as it did."""
    from farandole import api

    if follow:
        _print_lines(job_id, api.logs(job_id, follow=True), stream=sys.stderr)
    try:
        while not (now := api.status(job_id)).ended:
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        _leave(job_id)
    if now.state != "succeeded":
        print(f"farandole: {job_id} {_ended(now)}", file=sys.stderr)
        sys.exit(1)


def _ended(job: JobStatus) -> str:
    return f"{'was cancelled' if job.state == 'cancelled' else job.state}: {job.reason}"


def _print_lines(job_id: str, lines: Any, stream: Any = None) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `farandole logs ID | head` ends without a word
    try:
        for line in lines:
            print(line, file=stream or sys.stdout, flush=True)
    except KeyboardInterrupt:
        _leave(job_id)


def _leave(job_id: str) -> None:
    """Ctrl-C ends the watching, not the job."""
    print(f"farandole: {job_id} goes on without you; `farandole cancel {job_id}` ends it", file=sys.stderr, flush=True)
    os._exit(_INTERRUPTED)
