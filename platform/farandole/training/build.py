"""The parts of a trainer, made as the job says."""

from __future__ import annotations

import torch
from torch import nn

from farandole.errors import SpecError
from farandole.events import EventHandler, Message
from farandole.loading import Augmentation, TrainingLoader
from farandole.shards import Dataset
from farandole.spec import Job, metric_direction
from farandole.storage import Location
from farandole.training.checkpoint import BestMetric, CheckpointManager, open_backend
from farandole.training.evaluation.early_stopping import EarlyStopping
from farandole.training.evaluation.evaluator import Evaluator
from farandole.training.losses import class_weights, compute_metrics, loss_function, metric_functions, metric_key
from farandole.training.optim.ema import ExponentialMovingAverage
from farandole.training.optim.grad_sync import GradientSync, ReplicatedGradientSync
from farandole.training.optim.precision import LossScaler
from farandole.training.optim.schedule import ReduceOnPlateau
from farandole.training.optim.zero import ShardedGradientSync
from farandole.training.step import Stepper
from farandole.training.timing import TimeSplit
from farandole.training.world import World


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


def make_grad_sync(job: Job, model: nn.Module, gang: World) -> GradientSync:
    """What sums gradients and moves the weights."""
    return (ShardedGradientSync if job.train.shard_optimizer else ReplicatedGradientSync)(job.train, model, gang)


def make_stepper(
    job: Job,
    dataset: Dataset,
    model: nn.Module,
    gang: World,
    device: torch.device,
    *,
    update: GradientSync,
    scaler: LossScaler | None,
    averaged: ExponentialMovingAverage | None,
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
        lambda outputs, labels: compute_metrics(job.metrics, outputs, labels, label, own),
    )


def make_plateau(job: Job, dataset: Dataset) -> ReduceOnPlateau | None:
    """What lowers the learning rate when the validation gets no better, if the job wants it.

    Raises:
        SpecError: There is nothing to validate on.
    """
    spec = job.train.schedule
    if spec.name != "plateau":
        return None
    _require_validation(dataset, "schedule: plateau")
    metric = spec.metric or job.metrics[0]
    return ReduceOnPlateau(spec, metric_key(metric), metric_direction(metric, spec.direction, "train.schedule"))


def make_early_stopping(job: Job, dataset: Dataset) -> EarlyStopping | None:
    """What ends a training that gets no better, if the job wants it.

    Raises:
        SpecError: There is nothing to validate on.
    """
    spec = job.train.early_stopping
    if spec is None:
        return None
    _require_validation(dataset, "early_stopping")
    metric = spec.metric or job.metrics[0]
    return EarlyStopping(spec, metric_key(metric), metric_direction(metric, spec.direction, "train.early_stopping"))


def make_checkpoint_manager(job: Job, directory: Location, identity: object) -> CheckpointManager:
    """Where checkpoints lie.

    Args:
        job: The job.
        directory: Their directory.
        identity: What they belong to: nested mappings of plain values.
    """
    spec = job.train.checkpoint
    metric = spec.best_metric or job.metrics[0]
    best = BestMetric(metric, spec.is_lower_better(metric)) if spec.keep_best else None
    return CheckpointManager(open_backend(directory), identity, keep=spec.keep, keep_best=spec.keep_best, best=best)


def use_channels_last(model: nn.Module, on_event: EventHandler) -> None:
    """Lay weights out as height, width, channels."""
    if not any(parameter.ndim == 4 for parameter in model.parameters()):
        text = "train.channels_last: the network has no convolutions of images, so it has no effect"
        on_event(Message(text, level="warning"))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _require_validation(dataset: Dataset, place: str) -> None:
    if not dataset.manifest.rows("validation"):
        raise SpecError(f"train.{place}: there are no validation rows to go by; set data.split.validation, prepare")
