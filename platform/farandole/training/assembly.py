"""The parts of a trainer, made as the job says."""

from __future__ import annotations

import torch
from torch import nn

from farandole.errors import SpecError
from farandole.loading import Augmentation, TrainingLoader
from farandole.progress import Noted, Watcher
from farandole.shards import Dataset
from farandole.shards.storage import Place
from farandole.spec import Job, direction_of
from farandole.training.checkpoint import BestBy, Shelf, store_in
from farandole.training.ema import Averaged
from farandole.training.evaluation import Evaluator
from farandole.training.objective import class_weights, loss_function, measure, metric_functions, metric_key
from farandole.training.precision import LossScaler
from farandole.training.schedule import Plateau
from farandole.training.step import Stepper
from farandole.training.timing import TimeSplit
from farandole.training.update import Update, WholeUpdate
from farandole.training.watched import Stopper
from farandole.training.world import World
from farandole.training.zero import ShardedUpdate


def make_loader(job: Job, dataset: Dataset, gang: World, device: torch.device) -> TrainingLoader:
    """This rank's training rows."""
    spec = job.train
    return TrainingLoader(
        dataset,
        global_batch_size=spec.global_batch_size,
        rank=gang.rank,
        size=gang.size,
        seed=spec.seed,
        tail=spec.tail,
        pin=device.type == "cuda",
        transform=Augmentation(spec.augment, dataset, spec.seed) if spec.augment else None,
    )


def make_update(job: Job, model: nn.Module, gang: World) -> Update:
    """What sums gradients and moves the weights."""
    return (ShardedUpdate if job.train.shard_optimizer else WholeUpdate)(job.train, model, gang)


def make_stepper(
    job: Job,
    dataset: Dataset,
    model: nn.Module,
    gang: World,
    device: torch.device,
    *,
    update: Update,
    scaler: LossScaler | None,
    averaged: Averaged | None,
    time_split: TimeSplit,
) -> Stepper:
    """What takes one optimizer step."""
    spec, label = job.train, dataset.manifest.columns.target
    weights = class_weights(job, dataset, gang)
    return Stepper(
        spec=spec,
        model=model,
        forward=torch.compile(model) if spec.compile else model,
        loss=loss_function(spec.loss, label, smoothing=spec.label_smoothing, weights=weights, folder=job.folder),
        label=label,
        update=update,
        scaler=scaler,
        averaged=averaged,
        gang=gang,
        device=device,
        time_split=time_split,
    )


def make_evaluator(job: Job, dataset: Dataset, model: nn.Module, gang: World, device: torch.device) -> Evaluator:
    """What measures the network on a split."""
    label, own = dataset.manifest.columns.target, metric_functions(job)
    return Evaluator(
        dataset,
        model,
        gang,
        device,
        job.train.precision,
        lambda outputs, labels: measure(job.metrics, outputs, labels, label, own),
    )


def make_plateau(job: Job, dataset: Dataset) -> Plateau | None:
    """What lowers the learning rate when the validation gets no better, if the job wants it.

    Raises:
        SpecError: There is nothing to validate on.
    """
    spec = job.train.schedule
    if spec.name != "plateau":
        return None
    _require_validation(dataset, "schedule: plateau")
    metric = spec.metric or job.metrics[0]
    return Plateau(spec, metric_key(metric), direction_of(metric, spec.direction, "train.schedule"))


def make_stopper(job: Job, dataset: Dataset) -> Stopper | None:
    """What ends a training that gets no better, if the job wants it.

    Raises:
        SpecError: There is nothing to validate on.
    """
    spec = job.train.early_stopping
    if spec is None:
        return None
    _require_validation(dataset, "early_stopping")
    metric = spec.metric or job.metrics[0]
    return Stopper(spec, metric_key(metric), direction_of(metric, spec.direction, "train.early_stopping"))


def make_shelf(job: Job, directory: Place, identity: object) -> Shelf:
    """Where checkpoints lie.

    Args:
        job: The job.
        directory: Their directory.
        identity: What they belong to: nested mappings of plain values.
    """
    spec = job.train.checkpoint
    metric = spec.best_metric or job.metrics[0]
    best = BestBy(metric, spec.lowest_is_best(metric)) if spec.keep_best else None
    return Shelf(store_in(directory), identity, keep=spec.keep, keep_best=spec.keep_best, best=best)


def use_channels_last(model: nn.Module, watch: Watcher) -> None:
    """Lay weights out as height, width, channels."""
    if not any(parameter.ndim == 4 for parameter in model.parameters()):
        text = "train.channels_last: the network has no convolutions of images, so it has no effect"
        watch(Noted(text, level="warning"))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _require_validation(dataset: Dataset, place: str) -> None:
    if not dataset.manifest.rows("validation"):
        raise SpecError(f"train.{place}: there are no validation rows to go by; set data.split.validation, prepare")
