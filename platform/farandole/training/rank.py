"""The work of one rank, from joining the gang to recording the results. Reads top to bottom."""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from farandole.bundle.documents import TrainingRecord, training_card
from farandole.errors import FarandoleError, UnavailableError
from farandole.events import Event, Message, StageEnded, StageStarted, format_count, format_metric, ignore_event
from farandole.explaining.model import require_captum
from farandole.jobdir.checkpoints import checkpoint_location
from farandole.jobdir.layout import PROFILES
from farandole.preprocess import Preprocessing
from farandole.process.collection import paused_collection
from farandole.process.messages import Met, MlflowRunCreated, Result, send_message
from farandole.shards import Dataset, require_policies
from farandole.spec import Job
from farandole.tracking.run_link import open_run_link, require_run_link
from farandole.tracking.store import resolve_store
from farandole.training import world
from farandole.training.evaluation.baselines import boosting_process
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.evaluation.report import Reporter
from farandole.training.model_builder import build_model
from farandole.training.program_export import clear_program, export_program, is_exporter, shared_program
from farandole.training.result import TrainingResult
from farandole.training.stop import Stopped, StopSwitch
from farandole.training.trainer import Trainer
from farandole.training.world import World

if TYPE_CHECKING:
    from farandole.tracking.recorder import ModelCard, Recorder

_BOOSTING_TIMEOUT_S = 30.0
"""Seconds that a finished training waits for the boosting baseline."""
_NOT_IN_IDENTITY = {
    "epochs",
    "checkpoint",
    "log_every_steps",
    "metrics",
    "accumulate_steps",
    "shard_optimizer",
    "horovod",
    "compile",
    "channels_last",
    "profile",
    "explain",
    "baseline",
}
"""Settings that a resumed training may change: the result stays the same up to rounding, or is meant to change."""


def run_rank(job: Job, directory: Path, register: bool, switch: StopSwitch) -> None:
    """Join the gang, then train, evaluate, and record the results.

    Args:
        job: The job.
        directory: The job's directory, with its checkpoints and what it records until MLflow has received it.
        register: Whether to add a model version.
        switch: Stop request of this rank.

    Raises:
        Stopped: A rank was asked to stop; the state is saved.
    """
    if os.environ.get("HOROVOD_RANK", "0") == "0":  # seconds of import that only one rank needs, in parallel
        threading.Thread(target=importlib.import_module, args=("farandole.tracking.recorder",), daemon=True).start()
    with world.init() as gang:
        if gang.is_rank_zero:
            send_message(Met(gang.size))
        _train_and_record(job, gang, directory, register, switch)


def _train_and_record(job: Job, gang: World, directory: Path, register: bool, switch: StopSwitch) -> None:
    """Train, evaluate, and record the results."""
    dataset = Dataset(job.data.output, job.data.shard_key)
    require_policies(job.data, dataset.manifest)
    if job.train.explain:
        require_captum()  # now, and not after hours of training
    _set_threads(job, gang)
    device = _select_device(job, gang)
    torch.manual_seed(job.train.seed)
    model = build_model(job, dataset.manifest.columns)
    with ExitStack() as resources:

        @functools.cache
        def recorder() -> Recorder:
            """Open the recorder when there is something to record.

            Importing MLflow and reaching its store takes as long as everything before the first step, and nobody has
            to wait for it until then.
            """
            from farandole.tracking.recorder import record_run
            from farandole.tracking.system_metrics import record_system_metrics  # being imported since the start

            opened = resources.enter_context(record_run(job.tracking, directory, send_message, _send_run_id, job=job))
            resources.push(_keep_open_if_stopped(opened))
            if job.tracking.system_metrics:
                resources.enter_context(record_system_metrics(job.tracking, directory, opened))
            opened.log_params(job)
            opened.log_dataset(dataset.manifest, job.data.output)
            opened.log_provenance(job.folder)
            opened.describe(job, dataset.manifest)
            return opened

        if gang.size > gang.local_size and job.tracking.system_metrics:
            _record_other_nodes(job, gang, directory, resources)
        trainer = Trainer(
            job=job,
            dataset=dataset,
            model=model,
            gang=gang,
            device=device,
            directory=checkpoint_location(job, directory),
            identity=_identity(job, dataset),
            on_event=send_message if gang.is_rank_zero else ignore_event,
            log=(lambda values, step: recorder().log_metrics(values, step)) if gang.is_rank_zero else _log_nothing,
            switch=switch,
            profiles=directory / PROFILES,
        )
        boosting = None
        if gang.is_rank_zero:
            boosting = resources.enter_context(boosting_process(job, dataset, directory))
            clear_program(directory)
        _report(gang, StageStarted("train", f"training on {format_count(gang.size, 'worker')}"))
        result = trainer.fit()
        _report(gang, StageEnded("train", f"{result.steps} steps, {result.rows_per_s:,.0f} rows/s"))
        _report(gang, StageStarted("evaluate", "evaluating on the test split"))
        test = trainer.evaluate("test")
        metrics = ", ".join(f"{name} {format_metric(value)}" for name, value in (test.metrics if test else {}).items())
        teacher = trainer.evaluate_teacher("test")
        _report(gang, StageEnded("evaluate", f"test {metrics}" if test else "there is no test split"))
        if gang.is_rank_zero:
            reporter = Reporter(job, dataset, test, boosting, teacher)
            reporter.describe(result)
            with shared_program(gang, directory, result.weights_digest):
                _record_results(trainer, result, test, reporter, recorder(), register)
        elif is_exporter(gang):
            export_program(model, Preprocessing.from_dict(dataset.manifest.preprocessing), directory)


def _record_other_nodes(job: Job, gang: World, directory: Path, resources: ExitStack) -> None:
    """Record system metrics on the first rank of each node, but for rank zero's."""
    if gang.is_rank_zero:
        open_run_link(directory, resolve_store(job.tracking).shown)
    world.barrier("record")
    if gang.local_rank == 0 and not gang.is_rank_zero:
        require_run_link(directory)
        opened = ExitStack()

        def record() -> None:
            from farandole.tracking.system_metrics import record_system_metrics

            try:
                opened.enter_context(record_system_metrics(job.tracking, directory, None))
            except (FarandoleError, OSError) as error:  # not a reason to end a training
                text = f"rank {gang.rank} does not record the system metrics of its node: {error}"
                send_message(Message(text, level="warning"))

        # In a thread: otherwise the steps of all nodes would wait for the import of MLflow.
        opening = threading.Thread(target=record, name="system-metrics", daemon=True)
        opening.start()
        resources.callback(opened.close)
        resources.callback(opening.join)


def _keep_open_if_stopped(recorder: Recorder) -> Callable[..., None]:
    """Keep the MLflow run open if training was asked to stop: the launcher may continue it in another attempt."""

    def on_exit(kind: type[BaseException] | None, *_: object) -> None:
        recorder.keep_open = kind is Stopped

    return on_exit


def _record_results(
    trainer: Trainer,
    result: TrainingResult,
    test: EvaluationResult | None,
    reporter: Reporter,
    recorder: Recorder,
    register: bool,
) -> None:
    """Record what was measured, the report and the model, and send the result document."""
    from farandole.tracking.model import save_model

    job, manifest = trainer.job, trainer.dataset.manifest
    _record_measurements(trainer, result, test, recorder)
    reporter.add_boosting(_BOOSTING_TIMEOUT_S)  # before the description, which the registered version keeps
    _record_report(reporter, result, recorder)
    if job.train.explain:
        from farandole.training.explanation import explain_training

        explain_training(trainer, recorder)
    metrics = {"test": test.metrics if test else {}, "validation": result.validation}
    recorder.describe(job, manifest, metrics | reporter.report.baselines)
    send_message(StageStarted("register", "logging the model"))
    preprocessing = Preprocessing.from_dict(manifest.preprocessing)
    register_as = job.tracking.register_as if register else None
    failure = _find_failure(reporter, result, recorder, register_as) if register_as is not None else None
    record = TrainingRecord(
        job=job,
        manifest=manifest,
        metrics=metrics,
        report=reporter.report.to_dict(),
        outputs=test.outputs.numpy() if test else None,
        run_id=recorder.run_id,
        commit=recorder.commit,
    )
    card = _model_card(record, result.weights_step, recorder.describe_version(training_card(record)))
    with paused_collection():  # saving imports torch's compiler
        problem = recorder.log_model(
            lambda directory: save_model(trainer.model, preprocessing, job, directory, record),
            register_as if failure is None else None,
            card,
        )
    if problem is not None:
        text = f"the network cannot be exported, so the model is logged with its code ({problem})"
        send_message(Message(text, level="warning"))
    # A model that the store has not received yet is in the job's directory, where MLflow can read it as well.
    uri = recorder.drain(job.tracking.wait_s).model_uri or recorder.model_directory
    send_message(StageEnded("register", uri))
    recorded = replace(
        result,
        test=test.metrics if test else {},
        evaluation=reporter.report.to_dict(),
        mlflow_run_id=recorder.run_id,
    )
    dataset = {"path": job.data.output, "digest": manifest.digest, "rows": manifest.row_counts, "reused": True}
    send_message(Result(dataset, recorded.to_dict(), {"uri": uri, "not_registered": failure}))


def _record_measurements(
    trainer: Trainer, result: TrainingResult, test: EvaluationResult | None, recorder: Recorder
) -> None:
    """Record the metrics of the test split, times, plots and profiles."""
    from farandole.tracking.run_summary import DIGEST_CHARACTERS
    from farandole.training.evaluation import plots

    job, manifest = trainer.job, trainer.dataset.manifest
    final: dict[str, float] = {}
    if test is not None:
        final |= {f"test.{name}": value for name, value in test.metrics.items()}
        for name, figure in plots.plot_evaluation(test, manifest.columns.target).items():
            recorder.log_figure(figure, name)
    final["train.rows_per_s"] = result.rows_per_s
    final |= {f"time.{name}": value for name, value in result.time_split.rounded().items()}
    recorder.log_metrics(final, result.steps)
    recorder.log_figure(plots.plot_training_curves(recorder.history, job.metric_keys[0]), "training_curves")
    if job.train.profile and trainer.profiles is not None:
        for path in sorted(trainer.profiles.iterdir()):
            recorder.log_file(f"profile/{path.name}", path.read_bytes())
    recorder.set_tags({"farandole.weights_digest": result.weights_digest[:DIGEST_CHARACTERS]})


def _find_failure(reporter: Reporter, result: TrainingResult, recorder: Recorder, register_as: str) -> str | None:
    """Return why the model is not registered, and say so; None if it is."""
    failure = reporter.find_failure(result.steps, recorder.history.get("train.loss", []))
    if failure is None:
        return None
    tracking = reporter.job.tracking
    remedy = "registered all the same (tracking.register_anyway)"
    if not tracking.register_anyway:
        remedy = f"logged, but not registered as {register_as}; --register-anyway registers it"
    recorder.set_tags({"farandole.worse_than_baseline": failure})
    send_message(Message(f"the model is not better than the trivial baseline: {failure}; it is {remedy}", "warning"))
    return None if tracking.register_anyway else failure


def _record_report(reporter: Reporter, result: TrainingResult, recorder: Recorder) -> None:
    """Record the baselines, and the notes and figures that help to judge the metrics."""
    report = reporter.report
    for name, metrics in report.baselines.items():
        recorder.log_points({f"baseline.{name}.{metric}": value for metric, value in metrics.items()}, result.steps)
    if report.test_rows_digest is not None:
        recorder.set_tags({"farandole.test_rows_digest": report.test_rows_digest})
    recorder.log_json(report.to_dict(), "evaluation/report.json")
    if report.notes:
        recorder.set_tags({"farandole.note": "\n".join(report.notes)})
    for note in report.notes:
        send_message(Message(note, "warning"))


def _model_card(record: TrainingRecord, step: int, description: str) -> ModelCard:
    """Return what MLflow shows of the model: its dataset, its metrics, and the description of its version."""
    from farandole.tracking.recorder import ModelCard, dataset_identity

    job = record.job
    flat = {f"{split}.{name}": value for split, values in record.metrics.items() for name, value in values.items()}
    tags = {
        name: format_metric(flat[name]) for name in (f"test.{metric}" for metric in job.metric_keys) if name in flat
    }
    dataset = dataset_identity(record.manifest, job.data.output)
    return ModelCard(job.name, step, flat, dataset, description, {**tags, "dataset": dataset["digest"]})


def _identity(job: Job, dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint belongs to: it may be resumed with other workers or more epochs, not with other data."""
    # Of trained models, the digests count and not the names; without any, nothing is added to older checkpoints.
    models = {
        name: part.model_dump(mode="json", exclude={"teacher", "model"})
        for name, part in job.train.trained_models.items()
    }
    return {
        "dataset": dataset.manifest.digest,
        "model": job.network.model_dump(mode="json"),
        "train": job.train.model_dump(mode="json", exclude={*_NOT_IN_IDENTITY, "distill", "prune"}) | models,
    }


def _select_device(job: Job, gang: World) -> torch.device:
    if not job.resources.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available() or torch.cuda.device_count() <= gang.local_rank:
        raise UnavailableError(
            f"resources.gpus: worker {gang.rank} finds {torch.cuda.device_count()} usable GPUs on its host and needs"
            f" number {gang.local_rank + 1}; set resources.gpus to 0, or use hosts with enough GPUs"
        )
    torch.cuda.set_device(gang.local_rank)
    return torch.device("cuda", gang.local_rank)


def _set_threads(job: Job, gang: World) -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(job.resources.threads(cores, gang.local_size))


def _report(gang: World, event: Event) -> None:
    if gang.is_rank_zero:
        send_message(event)


def _log_nothing(values: dict[str, float], step: int) -> None:
    """Discard metrics: rank zero records them."""


def _send_run_id(run_id: str) -> None:
    send_message(MlflowRunCreated(run_id))
