"""`farandole bench …`: measures this machine, next to others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import tables
from farandole.cli.jobs import JobFile, Overrides
from farandole.errors import SpecError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as they stand in BENCHMARKS.md.")]
Systems = Annotated[
    list[str] | None,
    typer.Option("--system", metavar="NAME", help="Only this system. Repeatable. Default: all that are installed."),
]
PeersPython = Annotated[
    str, typer.Option(metavar="PATH", help="The interpreter that has the peers, if another than this one.")
]
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each system, of which the fastest counts.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few rows, once: to see that it works, not to compare.")]

app = typer.Typer(
    help="Measure this machine: loading, preparing, training, starting, saving, recovering, queueing, next to others.",
    no_args_is_help=True,
)


@app.command()
def loader(
    cases: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="Only this case: table, table10, images, tokens. Repeatable."),
    ] = None,
    systems: Systems = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of each case.", show_default="the case's own")] = None,
    peer_rows: Annotated[int, typer.Option(min=1, help="The most rows that a peer reads; they are slow.")] = 50_000,
    repeats: Repeats = 3,
    peers_python: PeersPython = sys.executable,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Shuffled batches of 1,024 rows: rows/s, first batch, resume, memory."""
    from benchmarks.loader import LoaderBench, bench_loader
    from benchmarks.loader_cases import CASES
    from farandole.cli.progress import event_display

    _refuse_both(as_json, as_markdown)
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
    times: Annotated[int, typer.Option(min=1, help="How often the 336,776 flights of 2013 are repeated.")] = 10,
    peer_times: Annotated[int, typer.Option(min=1, help="How often at most for peers; they are slow.")] = 1,
    repeats: Repeats = 3,
    memory: Annotated[str, typer.Option(help="The memory of Spark's driver.")] = "2g",
    peers_python: PeersPython = sys.executable,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """CSV of flights to a dataset, next to Spark's Parquet: rows/s, memory."""
    from benchmarks.ingest import IngestBench, bench_ingest
    from farandole.cli.progress import event_display

    _refuse_both(as_json, as_markdown)
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
        typer.Option("--case", metavar="NAME", help="Only this case: flights_mlp, mnist_cnn, mlp10m. Repeatable."),
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option("--system", metavar="NAME", help="Only this one: farandole, horovod, ddp, single. Repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of each gang.")] = 2,
    gpus: Annotated[int, typer.Option(min=0, max=1, help="GPUs of each process.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Gangs of each system, in turn; the median counts.")] = 3,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Steps of training, next to Horovod by hand, torch's DDP and one process: ms, rows/s, memory."""
    from benchmarks.train import SYSTEMS, TrainBench, bench_train
    from benchmarks.training_cases import TRAINING_CASES
    from farandole.cli.progress import event_display

    _refuse_both(as_json, as_markdown)
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
    pairs: Annotated[int, typer.Option(min=1, help="Stretches of steps with a checkpoint, and as many without.")] = 5,
    workers: Annotated[int, typer.Option(min=1, help="Ranks of the gang.")] = 2,
    directory: Annotated[
        str | None, typer.Option(metavar="DIR", help="The disk to write to.", show_default="that of temporary files")
    ] = None,
    synchronous: Annotated[bool, typer.Option("--synchronous", help="Let training wait for the disk.")] = False,
    quick: Quick = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """A 10-million-parameter network with checkpoints and without: ms a step."""
    from benchmarks.checkpoint import CheckpointBench, bench_checkpoint
    from farandole.cli.progress import event_display

    _refuse_both(as_json, as_markdown)
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
    kills: Annotated[int, typer.Option(min=1, help="How many workers are killed, one after the other.")] = 20,
    within: Annotated[float, typer.Option(min=0, help="Each within so many seconds after a first step.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the random moments and workers.")] = 0,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Kill workers of a job's training at random: seconds to the next step, and whether the weights are the same."""
    from benchmarks.recover import RecoverBench, bench_recover
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    _refuse_both(as_json, as_markdown)
    job = load_job(job_file, overrides or ())
    with event_display() as on_event:
        document = bench_recover(RecoverBench(job, kills, within, seed), on_event)
    tables.show(document, tables.RECOVER, as_json=as_json, as_markdown=as_markdown)


@app.command()
def start(
    job_file: JobFile,
    overrides: Overrides = None,
    repeats: Annotated[int, typer.Option(min=1, help="Starts of each system, of which the median counts.")] = 5,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """A job's training up to its first step, next to a bare script under horovodrun: seconds."""
    from benchmarks.start import StartBench, bench_start
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    _refuse_both(as_json, as_markdown)
    job = load_job(job_file, overrides or ())
    with event_display() as on_event:
        document = bench_start(StartBench(job, repeats), on_event)
    tables.show(document, tables.START, as_json=as_json, as_markdown=as_markdown)


@app.command()
def queue(
    job_file: Annotated[
        Path | None,
        typer.Argument(metavar="[JOB.yaml]", help="Kill the processes of this job's training too.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    submissions: Annotated[int, typer.Option(min=0, help="Jobs that are submitted at once.")] = 200,
    submitters: Annotated[int, typer.Option(min=1, help="By how many processes.")] = 8,
    slots: Annotated[int, typer.Option(min=1, help="How many of them run at once.")] = 4,
    kills: Annotated[int, typer.Option(min=0, help="Submitters, runners, jobs and children that are killed.")] = 50,
    job_kills: Annotated[int, typer.Option(min=0, help="Processes of the real job that are killed.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the random moments and victims.")] = 0,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Submit jobs from many processes, kill anything at random, follow a log: lost, run twice, orphans, ms."""
    from benchmarks.job_queue import QueueBench, bench_queue
    from farandole.cli.progress import event_display
    from farandole.spec import load_job

    _refuse_both(as_json, as_markdown)
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


def _refuse_both(as_json: bool, as_markdown: bool) -> None:
    if as_json and as_markdown:
        raise SpecError("--json, --markdown: one document can have one form only; leave one out")
