"""What one rank does, from meeting the others to recording the results. Reads top to bottom."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from farandole.errors import EnvironmentLacking
from farandole.preprocess import Preprocessing
from farandole.progress import Event, Noted, StageEnded, StageStarted, counted, ignore, to_dict
from farandole.shards import Dataset, require_policies
from farandole.spec import Job
from farandole.training import world
from farandole.training.builder import build_model
from farandole.training.checkpoint import weights_digest
from farandole.training.messages import send
from farandole.training.trainer import Evaluated, Trainer
from farandole.training.world import World


def be_rank(job: Job, directory: Path, register: bool) -> None:
    """Meet the other ranks, then train, evaluate, and record the results.

    Args:
        job: The job.
        directory: Where the job keeps its checkpoints, and what it records until MLflow has taken it.
        register: Whether to add a model version.
    """
    with world.join() as gang:
        _work(job, gang, directory, register)


def _work(job: Job, gang: World, directory: Path, register: bool) -> None:
    """Train, evaluate, and record the results."""
    dataset = Dataset(job.data.output, job.data.shard_key)
    require_policies(job.data, dataset.manifest)
    _use_threads(job, gang)
    device = _device(job, gang)
    torch.manual_seed(job.train.seed)
    model = build_model(job, dataset.manifest.columns)
    with ExitStack() as open_until_end:
        recorder = None
        if gang.is_chief:
            from farandole.tracking.recorder import recording  # seconds of import that only one rank needs

            recorder = open_until_end.enter_context(
                recording(job.tracking, directory, _tell, lambda run_id: send({"event": "mlflow_run", "id": run_id}))
            )
            send({"event": "met"})
            recorder.params(job)
            recorder.dataset(dataset.manifest, job.data.output)
            recorder.surroundings(job.folder)
        trainer = Trainer(
            job=job,
            dataset=dataset,
            model=model,
            gang=gang,
            device=device,
            directory=directory / "checkpoints",
            identity=_identity(job, dataset),
            watch=_tell if gang.is_chief else ignore,
            log=recorder.metrics if recorder else lambda values, step: None,
        )
        world.meet("recorder")  # the chief has been busy with MLflow for seconds
        if job.tracking.system_metrics and gang.local_rank == 0:
            from farandole.tracking.nodes import recording_node

            open_until_end.enter_context(recording_node(job.tracking, directory, recorder))
        _say(gang, StageStarted("train", f"training on {counted(gang.size, 'worker')}"))
        trainer.fit()
        _say(gang, StageEnded("train", f"{trainer.steps_done} steps, {trainer.rows_per_s:,.0f} rows/s"))
        _say(gang, StageStarted("evaluate", "evaluating on the test split"))
        test = trainer.evaluate("test")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in (test.metrics if test else {}).items())
        _say(gang, StageEnded("evaluate", f"test {shown}" if test else "there is no test split"))
        if recorder is not None:
            _finish(job, dataset, trainer, recorder, test, register)


def _finish(
    job: Job, dataset: Dataset, trainer: Trainer, recorder: Any, test: Evaluated | None, register: bool
) -> None:
    """What the chief does at the end: plots, the model, and the result document."""
    from farandole.tracking.model import save_model
    from farandole.training import plots

    label = dataset.manifest.columns.target
    time_split = {name: round(value, 3) for name, value in vars(trainer.time_split).items()}
    final = {f"time.{name}": value for name, value in time_split.items()}
    final["train.rows_per_s"] = trainer.rows_per_s
    if test is not None:
        final |= {f"test.{name}": value for name, value in test.metrics.items()}
        for name, figure in plots.result_plots(test, label).items():
            recorder.figure(figure, name)
    recorder.metrics(final, trainer.steps_done)
    recorder.figure(plots.training_curves(recorder.history, job.metrics[0]), "training_curves")
    digest = weights_digest(trainer.model.state_dict())
    recorder.tags({"farandole.weights_digest": digest})
    _tell(StageStarted("register", "logging the model"))
    preprocessing = Preprocessing.from_dict(dataset.manifest.preprocessing)
    problem = recorder.model(
        lambda place: save_model(trainer.model, preprocessing, job, place),
        job.tracking.register_as if register else None,
    )
    if problem is not None:
        _tell(Noted(f"the network cannot be exported, so its code is logged with it ({problem})", level="warning"))
    # A model that the store has not taken lies in the job's directory, where MLflow reads it as well.
    uri = recorder.settle(job.tracking.wait_s).model_uri or recorder.model_place
    _tell(StageEnded("register", uri))
    training = {
        "mlflow_run_id": recorder.run_id,
        "workers": trainer.gang.size,
        "steps": trainer.steps_done,
        "rows_per_s": round(trainer.rows_per_s, 1),
        "weights_digest": digest,
        "metrics": {"test": test.metrics if test else {}, "validation": trainer.validation},
        "time_split": time_split,
    }
    manifest = dataset.manifest
    described = {"path": job.data.output, "digest": manifest.digest, "rows": manifest.row_counts, "reused": True}
    send({"event": "result", "dataset": described, "training": training, "model": {"uri": uri}})


def _identity(job: Job, dataset: Dataset) -> str:
    """What a checkpoint belongs to: it may be resumed with other workers or more epochs, not with other data."""
    parts = {
        "dataset": dataset.manifest.digest,
        "model": job.network.model_dump(mode="json"),
        "train": job.train.model_dump(mode="json", exclude={"epochs", "checkpoint", "log_every_steps", "metrics"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _device(job: Job, gang: World) -> torch.device:
    if not job.resources.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available() or torch.cuda.device_count() <= gang.local_rank:
        raise EnvironmentLacking(
            f"resources.gpus: worker {gang.rank} finds {torch.cuda.device_count()} usable GPUs on its host and needs"
            f" number {gang.local_rank + 1}; set resources.gpus to 0, or use hosts with enough GPUs"
        )
    torch.cuda.set_device(gang.local_rank)
    return torch.device("cuda", gang.local_rank)


def _use_threads(job: Job, gang: World) -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(job.resources.threads(cores, gang.local_size))


def _say(gang: World, event: Event) -> None:
    if gang.is_chief:
        _tell(event)


def _tell(event: Event) -> None:
    send(to_dict(event))
