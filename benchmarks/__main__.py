"""Entry point of `python -m benchmarks`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import tables
from farandole.cli.pipeline import JobFile, Overrides
from farandole.errors import FarandoleError, SpecError

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print the tables in Markdown, as in BENCHMARKS.md.")]
Systems = Annotated[
    list[str] | None,
    typer.Option("--system", metavar="NAME", help="Measure only this system. Repeatable. Default: all installed ones."),
]
PeersPython = Annotated[
    str, typer.Option(metavar="PATH", help="The interpreter in which the peers are installed, if it is not this one.")
]
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each system; the fastest one counts.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few rows, once: to check that it works, not to compare.")]

app = typer.Typer(
    help="Measure loading, preparing, training, starting, saving, recovering and queueing, and compare with peers.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def loader(
    cases: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="One of table, table10, images, tokens. Repeatable. Default: all."),
    ] = None,
    systems: Systems = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of each case.", show_default="the case's own")] = None,
    peer_rows: Annotated[int, typer.Option(min=1, help="Maximum rows that a peer reads; peers are slow.")] = 50_000,
    repeats: Repeats = 3,
    peers_python: PeersPython = sys.executable,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure shuffled batches of 1,024 rows: rows/s, first batch, resume, memory."""
    from benchmarks.loader.bench import LoaderBench, bench_loader
    from benchmarks.loader.cases import CASES
    from farandole.cli.progress import event_display

    _require_one_format(as_json, as_markdown)
    bench = LoaderBench(
        cases=cases or tuple(CASES),
        systems=systems or (),
        rows=rows,
        peer_rows=peer_rows,
        repeats=repeats,
        peers_python=peers_python,
        quick=quick,
    )
    with event_display() as on_event:
        document = bench_loader(bench, on_event)
    tables.show(document, tables.LOADER, as_json=as_json, as_markdown=as_markdown)


@app.command()
def ingest(
    systems: Systems = None,
    times: Annotated[int, typer.Option(min=1, help="Repetitions of the 336,776 flights of 2013.")] = 10,
    peer_times: Annotated[int, typer.Option(min=1, help="Maximum repetitions for peers; peers are slow.")] = 1,
    repeats: Repeats = 3,
    memory: Annotated[str, typer.Option(help="Memory of Spark's driver.")] = "2g",
    peers_python: PeersPython = sys.executable,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure the preparation of a CSV of flights, compared with Spark's Parquet: rows/s, memory."""
    from benchmarks.ingest.bench import IngestBench, bench_ingest
    from farandole.cli.progress import event_display

    _require_one_format(as_json, as_markdown)
    bench = IngestBench(
        systems=systems or (),
        times=times,
        peer_times=peer_times,
        repeats=repeats,
        memory=memory,
        peers_python=peers_python,
        quick=quick,
    )
    with event_display() as on_event:
        document = bench_ingest(bench, on_event)
    tables.show(document, tables.INGEST, as_json=as_json, as_markdown=as_markdown)


@app.command()
def train(
    cases: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="One of flights_mlp, mnist_cnn, mlp10m. Repeatable. Default: all."),
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--system", metavar="NAME", help="One of farandole, horovod, ddp, single. Repeatable. Default: all."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of each gang.")] = 2,
    gpus: Annotated[int, typer.Option(min=0, max=1, help="GPUs of each process.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Gangs of each system, in turn; the median counts.")] = 3,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure training steps, compared with a hand-written Horovod loop, torch's DDP and one process."""
    from benchmarks.train.bench import SYSTEMS, TrainBench, bench_train
    from benchmarks.train.cases import TRAINING_CASES
    from farandole.cli.progress import event_display

    _require_one_format(as_json, as_markdown)
    bench = TrainBench(
        cases=cases or tuple(TRAINING_CASES),
        systems=systems or tuple(SYSTEMS),
        workers=workers,
        gpus=gpus,
        repeats=repeats,
        quick=quick,
    )
    with event_display() as on_event:
        document = bench_train(bench, on_event)
    tables.show(document, tables.TRAIN, as_json=as_json, as_markdown=as_markdown)


@app.command()
def checkpoint(
    every_steps: Annotated[int, typer.Option(min=4, help="Steps between two checkpoints.")] = 50,
    pairs: Annotated[int, typer.Option(min=1, help="Stretches of steps with a checkpoint, and without one.")] = 5,
    workers: Annotated[int, typer.Option(min=1, help="Ranks of the gang.")] = 2,
    directory: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where checkpoints are written.", show_default="that of temporary files"),
    ] = None,
    synchronous: Annotated[bool, typer.Option("--synchronous", help="Let the training wait for the disk.")] = False,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure the steps of a 10-million-parameter network with and without checkpoints."""
    from benchmarks.checkpoint.bench import CheckpointBench, bench_checkpoint
    from farandole.cli.progress import event_display

    _require_one_format(as_json, as_markdown)
    small = {"every_steps": 4, "pairs": 1, "hidden": 64} if quick else {}
    bench = CheckpointBench(
        **{"every_steps": every_steps, "pairs": pairs, **small},
        workers=workers,
        directory=directory,
        asynchronous=not synchronous,
    )
    with event_display() as on_event:
        document = bench_checkpoint(bench, on_event)
    tables.show(document, tables.CHECKPOINT, as_json=as_json, as_markdown=as_markdown)


@app.command()
def recover(
    job_file: JobFile,
    overrides: Overrides = None,
    kills: Annotated[int, typer.Option(min=1, help="Number of workers to kill, one after the other.")] = 20,
    within: Annotated[float, typer.Option(min=0, help="Maximum seconds from a first step to the next kill.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Seed of the random moments and workers.")] = 0,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Kill random workers of a training: seconds to the next step, and whether the weights are the same."""
    from benchmarks.jobs.recover import RecoverBench, bench_recover
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    _require_one_format(as_json, as_markdown)
    job = load_job(job_file, overrides or ())
    with event_display() as on_event:
        document = bench_recover(RecoverBench(job, kills, within, seed), on_event)
    tables.show(document, tables.RECOVER, as_json=as_json, as_markdown=as_markdown)


@app.command()
def start(
    job_file: JobFile,
    overrides: Overrides = None,
    repeats: Annotated[int, typer.Option(min=1, help="Starts of each system; the median counts.")] = 5,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure the seconds to the first step of a job's training, compared with a bare script under horovodrun."""
    from benchmarks.jobs.start import StartBench, bench_start
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    _require_one_format(as_json, as_markdown)
    job = load_job(job_file, overrides or ())
    with event_display() as on_event:
        document = bench_start(StartBench(job, repeats), on_event)
    tables.show(document, tables.START, as_json=as_json, as_markdown=as_markdown)


@app.command(name="end_to_end")
def end_to_end(
    cases: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="One of flights, small. Repeatable. Default: all."),
    ] = None,
    systems: Systems = None,
    before: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Another checkout of Farandole, set up by `make setup`, to compare with."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of all systems in turn; medians count.")] = 3,
    peers_python: PeersPython = sys.executable,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure raw files to registered model beside pandas with boosting, a DDP loop, and Ray: parts of the time."""
    from benchmarks.end_to_end.bench import EndToEndBench, bench_end_to_end
    from benchmarks.end_to_end.cases import END_TO_END_CASES
    from farandole.cli.progress import event_display

    _require_one_format(as_json, as_markdown)
    bench = EndToEndBench(
        cases=cases or tuple(END_TO_END_CASES),
        systems=systems or (),
        before=before,
        peers_python=peers_python,
        repeats=repeats,
    )
    with event_display() as on_event:
        document = bench_end_to_end(bench, on_event)
    tables.show(document, tables.END_TO_END, as_json=as_json, as_markdown=as_markdown)


@app.command(name="tables")
def compare_tables(
    names: Annotated[
        str | None,
        typer.Option("--tables", metavar="NAMES", help="Names of tables, joined by commas. Default: twelve tables."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Compare the first model of `farandole init` and `farandole run` with boosted trees on public tables."""
    from benchmarks.defaults.bench import PUBLISHED, TablesBench, bench_tables
    from farandole.cli.progress import event_display

    _require_one_format(as_json, as_markdown)
    bench = TablesBench(tables=names.split(",") if names else PUBLISHED, overrides=overrides or ())
    with event_display() as on_event:
        document = bench_tables(bench, on_event)
    tables.show_together(document, tables.TABLES, "tables", as_json=as_json, as_markdown=as_markdown)


@app.command()
def queue(
    job_file: Annotated[
        Path | None,
        typer.Argument(metavar="[JOB.yaml]", help="Also kill processes of this job's training.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    submissions: Annotated[int, typer.Option(min=0, help="Number of jobs to submit at once.")] = 200,
    submitters: Annotated[int, typer.Option(min=1, help="Number of processes that submit.")] = 8,
    slots: Annotated[int, typer.Option(min=1, help="Number of jobs that run at once.")] = 4,
    kills: Annotated[int, typer.Option(min=0, help="Number of submitters, runners, jobs and children to kill.")] = 50,
    job_kills: Annotated[int, typer.Option(min=0, help="Number of processes of the real job to kill.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the random moments and victims.")] = 0,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Submit jobs from many processes, kill random ones, follow a log: lost jobs, orphans, delays."""
    from benchmarks.queue.bench import QueueBench, bench_queue
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    _require_one_format(as_json, as_markdown)
    job = None if job_file is None else load_job(job_file, overrides or ())
    bench = QueueBench(
        submissions=submissions,
        submitters=submitters,
        slots=slots,
        kills=kills,
        job=job,
        job_kills=job_kills,
        seed=seed,
    )
    with event_display() as on_event:
        document = bench_queue(bench, on_event)
    tables.show(document, tables.QUEUE, as_json=as_json, as_markdown=as_markdown)


def _require_one_format(as_json: bool, as_markdown: bool) -> None:
    if as_json and as_markdown:
        raise SpecError("--json, --markdown: the document can only have one format; leave one of them out")


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)  # so that every `finally` ends what it started


def main() -> None:
    """Run a benchmark; turn errors into a message on standard error and an exit code."""
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
