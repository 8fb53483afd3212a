"""`submit`, and the commands for jobs: `jobs`, `status`, `logs`, `cancel`, `retry`, `scale`."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.completion import backends, job_ids, one_of
from farandole.cli.help import PlainCommand
from farandole.cli.pipeline import AsJson, JobFile, Overrides
from farandole.errors import SpecError, closest_match

if TYPE_CHECKING:
    from farandole.api import JobAddress
    from farandole.backends.protocol import JobStatus

_POLL_S = 1.0
_INTERRUPTED = 130
_STATES = ("queued", "running", "succeeded", "failed", "cancelled")


JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False, autocompletion=job_ids)]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="foreground, local, hosts or kubernetes. Default: the one that has the job, if it is from here.",
        autocompletion=backends,
    ),
]
Context = Annotated[
    str | None, typer.Option(metavar="NAME", help="For kubernetes: the kubeconfig's context.", show_default=False)
]
Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="For kubernetes: the namespace.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Run a job")(submit)
    for command in (jobs, status, logs, cancel, retry, scale):
        app.command(cls=PlainCommand, rich_help_panel="Follow and control jobs")(command)


def submit(
    job_file: JobFile,
    overrides: Overrides = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="local, hosts or kubernetes. Default: the job file's, local.",
            autocompletion=backends,
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of waiting jobs, the one with the highest starts first.",
            show_default="the job file's, 0",
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of jobs that run at once from now on.",
            envvar="FARANDOLE_SLOTS",
            show_default="1",
        ),
    ] = None,
    context: Context = None,
    namespace: Namespace = None,
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help="For kubernetes: the Kueue queue.", show_default=False)
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the job has ended; exit with 1 unless it succeeded.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Like --wait, and show the job's log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit the job to a backend and return at once; it runs without this process."""
    from farandole import api
    from farandole.cli import render_jobs
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
    render_jobs.show_submitted(submitted, as_json=as_json)
    if wait or follow:
        _wait(submitted.id, follow=follow)


def jobs(
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help=f"Only jobs in this state: {', '.join(_STATES)}. Repeatable.",
            autocompletion=one_of(*_STATES),
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="Maximum number of jobs, newest first.")
    ] = 50,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="foreground, local, hosts or kubernetes. Default: all that have jobs from here.",
            autocompletion=backends,
        ),
    ] = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs, submitted or run in the foreground, the newest first."""
    from farandole import api
    from farandole.cli import render_jobs
    from farandole.cli.progress import event_display

    for wanted in state or ():
        if wanted not in _STATES:
            close = closest_match(wanted, list(_STATES))
            hint = f"did you mean {close}?" if close else f"the states are {', '.join(_STATES)}"
            raise SpecError(f"--state: {wanted}: there is no such state; {hint}")
    address = _address(backend, context, namespace)
    with event_display() as on_event:
        found = api.jobs(on_event, **address)
    chosen = [job for job in found if not state or job.state in state]
    render_jobs.show_jobs(chosen[:limit], len(chosen), as_json=as_json)


def status(
    job_id: JobId,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Show the state of a job, and the reason for it."""
    from farandole import api
    from farandole.cli import render_jobs

    address = _address(backend, context, namespace)
    render_jobs.show_status(api.status(job_id, **address), as_json=as_json)


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the job has ended.")] = False,
    rank: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Show the output of this worker, over all attempts.", show_default=False),
    ] = None,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show a job's log: stages, progress and failures; or the output of one of its workers."""
    from farandole import api

    address = _address(backend, context, namespace)
    _print_lines(job_id, api.logs(job_id, rank=rank, follow=follow, **address))


def cancel(
    job_id: JobId,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """End a job and everything that it started; a training saves a checkpoint first."""
    from farandole import api
    from farandole.cli import render_jobs

    address = _address(backend, context, namespace)
    render_jobs.show_status(api.cancel(job_id, **address), as_json=as_json)


def retry(
    job_id: JobId,
    backend: BackendOption = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Continue a failed or cancelled job from its last checkpoint: same id, same MLflow run."""
    from farandole import api
    from farandole.cli import render_jobs

    address = _address(backend, context, namespace)
    render_jobs.show_submitted(api.retry(job_id, **address), as_json=as_json)


def scale(
    job_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id of a running job.", show_default=False, autocompletion=job_ids)
    ],
    workers: Annotated[int, typer.Argument(metavar="N", help="The new number of workers.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Continue a running job with another number of workers, from its next checkpoint on."""
    from farandole import api
    from farandole.cli import render

    api.scale(job_id, workers)
    render.show_scaling(job_id, workers, as_json=as_json)


def _address(backend: str | None, context: str | None, namespace: str | None) -> JobAddress:
    """Return the backend and the location that the options select."""
    from farandole.backends.registry import select_backend

    name, location = select_backend(backend, {"context": context, "namespace": namespace})
    return {"backend": name, "location": location}


def _wait(job_id: str, *, follow: bool) -> None:
    """Wait until a job has ended; exit with 1 if it did not succeed."""
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `farandole logs ID | head` ends silently
    try:
        for line in lines:
            print(line, file=stream or sys.stdout, flush=True)
    except KeyboardInterrupt:
        _leave(job_id)


def _leave(job_id: str) -> None:
    """End this command after Ctrl-C; the job continues to run."""
    print(f"farandole: {job_id} is still running; `farandole cancel {job_id}` ends it", file=sys.stderr, flush=True)
    os._exit(_INTERRUPTED)
