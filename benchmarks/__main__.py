"""Entry point of `python -m benchmarks`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from benchmarks import tables
from benchmarks.options import (
    AsJson,
    AsMarkdown,
    BenchCommand,
    PeersPython,
    Quick,
    Repeats,
    cases_of,
    number,
    systems_of,
)
from farandole.cli.console import prepare_output
from farandole.cli.help import GroupedCommands
from farandole.cli.pipeline import JobFile, Overrides
from farandole.errors import FarandoleError, SpecError
from farandole.events import EventHandler

Names = list[str] | None
Bench = TypeVar("Bench")

app = typer.Typer(
    cls=GroupedCommands,
    help="Measure loading, preparing, training, starting, saving, recovering, queueing, serving and predicting, beside"
    " peers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain lists, which fit narrow terminals
)


@app.command(cls=BenchCommand)
def loader(
    cases: Annotated[Names, cases_of("loader.cases:CASES")] = None,
    systems: Annotated[Names, systems_of("loader.bench:OWN_SYSTEMS", "loader.bench:PEERS")] = None,
    rows: Annotated[int | None, number("Rows of each case. Default: the case's own.")] = None,
    peer_rows: Annotated[int, number("Maximum rows that a peer reads; peers are slow.")] = 50_000,
    repeats: Repeats = 3,
    peers_python: PeersPython = sys.executable,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure shuffled batches of 1,024 rows: rows/s, first batch, resume, memory."""
    from benchmarks.loader.bench import LoaderBench, bench_loader

    bench = LoaderBench(
        cases=cases or (),
        systems=systems or (),
        rows=rows,
        peer_rows=peer_rows,
        repeats=repeats,
        peers_python=peers_python,
        quick=quick,
    )
    _measure(bench_loader, bench, tables.LOADER, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def ingest(
    systems: Annotated[Names, systems_of("ingest.bench:OWN_SYSTEMS", "ingest.bench:PEERS")] = None,
    times: Annotated[int, number("Repetitions of the 336,776 flights of 2013.")] = 10,
    peer_times: Annotated[int, number("Maximum repetitions for peers; peers are slow.")] = 1,
    repeats: Repeats = 3,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of Spark's driver.")] = "2g",
    peers_python: PeersPython = sys.executable,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure the preparation of a CSV of flights, compared with Spark's Parquet: rows/s, memory."""
    from benchmarks.ingest.bench import IngestBench, bench_ingest

    bench = IngestBench(
        systems=systems or (),
        times=times,
        peer_times=peer_times,
        repeats=repeats,
        memory=memory,
        peers_python=peers_python,
        quick=quick,
    )
    _measure(bench_ingest, bench, tables.INGEST, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def train(
    cases: Annotated[Names, cases_of("train.cases:TRAINING_CASES")] = None,
    systems: Annotated[Names, systems_of("train.bench:SYSTEMS", default="all")] = None,
    workers: Annotated[int, number("Processes of each gang.")] = 2,
    gpus: Annotated[int, number("GPUs of each process.", least=0, most=1)] = 0,
    repeats: Annotated[int, number("Gangs of each system, in turn; the median counts.")] = 3,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure training steps, compared with a hand-written Horovod loop, torch's DDP and one process."""
    from benchmarks.train.bench import TrainBench, bench_train

    bench = TrainBench(
        cases=cases or (), systems=systems or (), workers=workers, gpus=gpus, repeats=repeats, quick=quick
    )
    _measure(bench_train, bench, tables.TRAIN, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def checkpoint(
    every_steps: Annotated[int, number("Steps between two checkpoints.", least=4)] = 50,
    pairs: Annotated[int, number("Stretches of steps with a checkpoint, and without one.")] = 5,
    workers: Annotated[int, number("Ranks of the gang.")] = 2,
    directory: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where checkpoints are written. Default: the directory of temporary files."),
    ] = None,
    synchronous: Annotated[bool, typer.Option("--synchronous", help="Let the training wait for the disk.")] = False,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure the steps of a 10-million-parameter network with and without checkpoints."""
    from benchmarks.checkpoint.bench import CheckpointBench, bench_checkpoint

    small = {"every_steps": 4, "pairs": 1, "hidden": 64} if quick else {}
    bench = CheckpointBench(
        **{"every_steps": every_steps, "pairs": pairs, **small},
        workers=workers,
        directory=directory,
        asynchronous=not synchronous,
    )
    _measure(bench_checkpoint, bench, tables.CHECKPOINT, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def recover(
    job_file: JobFile,
    overrides: Overrides = None,
    kills: Annotated[int, number("Number of workers to kill, one after the other.")] = 20,
    within: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Maximum seconds from a first step to the next kill.")
    ] = 5.0,
    seed: Annotated[int, number("Seed of the random moments and workers.", least=None)] = 0,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Kill random workers of a training: seconds to the next step, and whether the weights are the same."""
    from benchmarks.jobs.recover import RecoverBench, bench_recover
    from farandole.spec import load_job

    bench = RecoverBench(load_job(job_file, overrides or ()), kills, within, seed)
    _measure(bench_recover, bench, tables.RECOVER, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def start(
    job_file: JobFile,
    overrides: Overrides = None,
    repeats: Annotated[int, number("Starts of each system; the median counts.")] = 5,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure the seconds to the first step of a job's training, compared with a bare script under horovodrun."""
    from benchmarks.jobs.start import StartBench, bench_start
    from farandole.spec import load_job

    bench = StartBench(load_job(job_file, overrides or ()), repeats)
    _measure(bench_start, bench, tables.START, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand, name="end_to_end")
def end_to_end(
    cases: Annotated[Names, cases_of("end_to_end.cases:END_TO_END_CASES")] = None,
    systems: Annotated[Names, systems_of("end_to_end.bench:SYSTEMS")] = None,
    before: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Another checkout of Farandole, set up by `make setup`, to compare with."),
    ] = None,
    repeats: Annotated[int, number("Rounds of all systems in turn; medians count.")] = 3,
    peers_python: PeersPython = sys.executable,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure raw files to registered model beside pandas with boosting, a DDP loop, and Ray: parts of the time."""
    from benchmarks.end_to_end.bench import EndToEndBench, bench_end_to_end

    bench = EndToEndBench(
        cases=cases or (), systems=systems or (), before=before, peers_python=peers_python, repeats=repeats
    )
    _measure(bench_end_to_end, bench, tables.END_TO_END, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def serve(
    cases: Annotated[Names, cases_of("serve.cases:CASES")] = None,
    systems: Annotated[Names, systems_of("serve.servers:SERVERS", default="all")] = None,
    seconds: Annotated[int, number("Duration of each load.", least=2)] = 10,
    workers: Annotated[int, number("Worker processes of each server.")] = 2,
    repeats: Annotated[int, number("Rounds of all systems in turn; medians count.")] = 3,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure predictions of single rows over HTTP, beside MLflow, LitServe and FastAPI: requests/s, latency."""
    from benchmarks.serve.bench import ServeBench, bench_serve

    bench = ServeBench(cases=cases or (), systems=systems or (), seconds=seconds, workers=workers, repeats=repeats)
    _measure(bench_serve, bench, tables.SERVE, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand)
def predict(
    rows: Annotated[list[int] | None, number("Rows of a file. Repeatable. Default: 1,000,000.")] = None,
    systems: Annotated[Names, systems_of("predict.bench:SYSTEMS", default="all")] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="A bundle of jobs/flights with its query. Default: one is trained."),
    ] = None,
    repeats: Annotated[int, number("Rounds of all systems in turn; medians count.")] = 3,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure predictions from Parquet to Parquet, beside a script with pandas: rows/s, processor time, memory."""
    from benchmarks.predict.bench import PredictBench, bench_predict

    bench = PredictBench(rows=rows or (1_000_000,), systems=systems or (), model=model, repeats=repeats)
    _measure(bench_predict, bench, tables.PREDICT, as_json=as_json, as_markdown=as_markdown)


@app.command(cls=BenchCommand, name="tables")
def compare_tables(
    names: Annotated[
        str | None,
        typer.Option(
            "--tables",
            metavar="NAMES",
            help="Some of {defaults.cases:TABLE_CASES}, joined by commas. Default: the first twelve.",
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Compare the first model of `farandole init` and `farandole run` with boosted trees on public tables."""
    from benchmarks.defaults.bench import TablesBench, bench_tables

    bench = TablesBench(tables=names.split(",") if names else (), overrides=overrides or ())
    _measure(bench_tables, bench, tables.TABLES, as_json=as_json, as_markdown=as_markdown, title="tables")


@app.command(cls=BenchCommand)
def queue(
    job_file: Annotated[
        Path | None,
        typer.Argument(metavar="JOB.yaml", help="Also kill processes of this job's training.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    submissions: Annotated[int, number("Number of jobs to submit at once.", least=0)] = 200,
    submitters: Annotated[int, number("Number of processes that submit.")] = 8,
    slots: Annotated[int, number("Number of jobs that run at once.")] = 4,
    kills: Annotated[int, number("Number of submitters, runners, jobs and children to kill.", least=0)] = 50,
    job_kills: Annotated[int, number("Number of processes of the real job to kill.", least=0)] = 4,
    seed: Annotated[int, number("Seed of the random moments and victims.", least=None)] = 0,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Submit jobs from many processes, kill random ones, follow a log: lost jobs, orphans, delays."""
    from benchmarks.queue.bench import QueueBench, bench_queue
    from farandole.spec import load_job

    bench = QueueBench(
        submissions=submissions,
        submitters=submitters,
        slots=slots,
        kills=kills,
        job=None if job_file is None else load_job(job_file, overrides or ()),
        job_kills=job_kills,
        seed=seed,
    )
    _measure(bench_queue, bench, tables.QUEUE, as_json=as_json, as_markdown=as_markdown)


def _measure(
    measure: Callable[[Bench, EventHandler], dict[str, Any]],
    bench: Bench,
    columns: tuple[tables.Column, ...],
    *,
    as_json: bool,
    as_markdown: bool,
    title: str = "",
) -> None:
    """Run a benchmark, with its progress on standard error, and print its document."""
    from farandole.cli.progress import event_display

    if as_json and as_markdown:
        raise SpecError("--json, --markdown: the document can only have one format; leave one of them out")
    with event_display() as on_event:
        document = measure(bench, on_event)
    tables.show(document, columns, as_json=as_json, as_markdown=as_markdown, title=title)


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)  # so that every `finally` ends what it started


def main() -> None:
    """Run a benchmark; turn errors into a message on standard error and an exit code."""
    prepare_output()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(prog_name="python -m benchmarks")
    except FarandoleError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        if error.detail:
            is_debugging = os.environ.get("FARANDOLE_DEBUG")
            print(error.detail if is_debugging else "benchmarks: FARANDOLE_DEBUG=1 shows more", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
