"""Construction of a trainer's parts from the job."""

from __future__ import annotations

import torch
from torch import nn

from farandole.bundle.staged import staged_bundle
from farandole.errors import SpecError
from farandole.events import EventHandler, Message
from farandole.loading import Augmentation, TrainingLoader
from farandole.shards import LABEL, Dataset
from farandole.spec import Job, is_function_reference, metric_direction, metric_key
from farandole.storage import Location
from farandole.training.checkpoint import (
    BestMetric,
    Checkpointable,
    CheckpointController,
    CheckpointManager,
    open_backend,
)
from farandole.training.consensus import Consensus
from farandole.training.distillation import Distillation, Teacher
from farandole.training.evaluation.early_stopping import EarlyStopping
from farandole.training.evaluation.evaluator import Evaluator
from farandole.training.evaluation.metrics import FALLBACK_METRIC, measure, metric_functions
from farandole.training.evaluation.rare_classes import is_coarse, is_undefined
from farandole.training.losses import class_weights, loss_function, output_bias
from farandole.training.model_builder import user_code_error
from farandole.training.optim.ema import ExponentialMovingAverage
from farandole.training.optim.grad_sync import GradientSync, ReplicatedGradientSync
from farandole.training.optim.schedule import ReduceOnPlateau
from farandole.training.optim.zero import ShardedGradientSync
from farandole.training.precision import LossScaler
from farandole.training.pruning import Pruning
from farandole.training.step import Stepper
from farandole.training.stop import StopSwitch
from farandole.training.timing import TimeSplit
from farandole.training.world import World

_SAMPLE_ROWS = 16_384


def initialize_output(job: Job, dataset: Dataset, model: nn.Module, gang: World) -> None:
    """Start a network's outputs at the frequencies of the classes, if it has a method `initialize_output(bias)`.

    Raises:
        ModelError: The method raises.
    """
    initialize = getattr(model, "initialize_output", None)
    if not callable(initialize):
        return
    bias = output_bias(job, dataset, gang)
    try:
        initialize(bias)
    except Exception as error:
        raise user_code_error(error, f"model.builder: {job.network.builder}: initialize_output") from error


def initialize_inputs(job: Job, dataset: Dataset, model: nn.Module) -> None:
    """Pass a sample of training rows to a network that has a method `initialize_inputs(**groups)`.

    Rows are in shards by a hash of their content, so that the first ones are a random sample.

    Raises:
        ModelError: The method raises.
    """
    initialize = getattr(model, "initialize_inputs", None)
    reader = dataset.split("train")
    if not callable(initialize) or not reader.block_rows:
        return
    sample = {
        name: torch.from_numpy(values[:_SAMPLE_ROWS].copy())  # a copy, since shards are mapped read-only
        for name, values in reader.block(0).items()
        if name != LABEL
    }
    try:
        initialize(**sample)
    except Exception as error:
        raise user_code_error(error, f"model.builder: {job.network.builder}: initialize_inputs") from error


def make_loader(job: Job, dataset: Dataset, gang: World, device: torch.device) -> TrainingLoader:
    """Create the loader of this rank's training rows."""
    spec = job.train
    return TrainingLoader(
        dataset,
        global_batch_size=spec.batch_rows,
        rank=gang.rank,
        size=gang.size,
        seed=spec.seed,
        tail=spec.tail,
        pin=device.type == "cuda",
        transform=Augmentation(spec.augment, dataset, spec.seed) if spec.augment else None,
    )


def make_grad_sync(job: Job, model: nn.Module, gang: World) -> GradientSync:
    """Create the part that sums gradients and updates the weights."""
    return (ShardedGradientSync if job.train.shard_optimizer else ReplicatedGradientSync)(job.train, model, gang)


def make_stepper(
    job: Job,
    dataset: Dataset,
    model: nn.Module,
    gang: World,
    device: torch.device,
    *,
    grad_sync: GradientSync,
    scaler: LossScaler | None,
    average: ExponentialMovingAverage | None,
    distillation: Distillation | None,
    pruning: Pruning | None,
    time_split: TimeSplit,
) -> Stepper:
    """Create the part that takes optimizer steps."""
    spec, label = job.train, dataset.manifest.columns.target
    weights = class_weights(job, dataset, gang)
    return Stepper(
        spec=spec,
        model=model,
        forward=torch.compile(model) if spec.compile else model,
        loss=loss_function(spec.loss, label, smoothing=spec.smoothing, weights=weights, folder=job.folder),
        label=label,
        grad_sync=grad_sync,
        scaler=scaler,
        average=average,
        distillation=distillation,
        pruning=pruning,
        gang=gang,
        device=device,
        time_split=time_split,
    )


def make_distillation(job: Job, dataset: Dataset, checkpoints: Location, device: torch.device) -> Distillation | None:
    """Load the teacher, if the job has one.

    Args:
        job: The job.
        dataset: The dataset.
        checkpoints: Directory or URI of the checkpoints, which has a copy of the teacher.
        device: Device of the network.

    Raises:
        BundleError: There is no copy, or it is damaged.
    """
    spec, schema = job.train.distill, dataset.manifest.columns
    if spec is None:
        return None
    with staged_bundle(spec.digest or "", checkpoints, "train.distill.teacher") as bundle:
        teacher = Teacher(bundle, schema, device)
    return Distillation(teacher, schema.target, spec.weight, spec.temperature)


def make_pruning(job: Job, model: nn.Module, checkpoints: Location) -> Pruning | None:
    """Give the network the weights of a trained one, and prune them, if the job configures it.

    Raises:
        BundleError: There is no copy of the trained model, it is damaged, or its weights do not fit the network.
    """
    spec = job.train.prune
    if spec is None:
        return None
    with staged_bundle(spec.digest or "", checkpoints, "train.prune.model") as bundle:
        return Pruning(model, bundle, spec.share)


def make_evaluator(
    job: Job, dataset: Dataset, model: nn.Module, gang: World, device: torch.device, precision: str | None = None
) -> Evaluator:
    """Create the part that evaluates a network on a split, by default in the precision of the training."""
    label, user_metrics = dataset.manifest.columns.target, metric_functions(job)
    return Evaluator(
        dataset,
        model,
        gang,
        device,
        precision or job.train.precision,
        lambda outputs, labels: measure(job, outputs, labels, label, user_metrics),
    )


def make_plateau(job: Job, dataset: Dataset) -> ReduceOnPlateau | None:
    """Create the plateau schedule, if the job configures it.

    Raises:
        SpecError: There are no validation rows.
    """
    spec = job.train.learning_rate_schedule
    if spec.name != "plateau":
        return None
    _require_validation(dataset, "train.schedule: plateau")
    metric, direction = spec.metric or job.metrics[0], spec.direction
    if is_undefined(metric, dataset, "validation"):
        metric, direction = FALLBACK_METRIC, None
    return ReduceOnPlateau(spec, metric_key(metric), metric_direction(metric, direction, "train.schedule"))


def make_early_stopping(job: Job, dataset: Dataset, on_event: EventHandler) -> EarlyStopping | None:
    """Create the part that keeps the best weights and ends a training early; None if there is nothing to compare.

    Raises:
        SpecError: The job configures early stopping, and there are no validation rows.
    """
    spec = job.train.stopping
    if spec is not None:
        _require_validation(dataset, "train.early_stopping")
    if not dataset.manifest.rows("validation"):
        return None
    metric, direction = job.metrics[0], None
    if spec is not None:
        metric, direction = spec.metric or metric, spec.direction
    if spec is None and is_function_reference(metric):  # nothing says whether higher values of it are better
        if job.train.keep == "last":
            return None
        text = (
            f"train.keep: nothing says whether higher values of {metric} are better, so the last weights are kept; put"
            " a built-in metric first in train.metrics, or set train.early_stopping with its `direction`"
        )
        on_event(Message(text, level="warning"))
        return None
    if is_undefined(metric, dataset, "validation") or (_is_by_default(job) and is_coarse(metric, dataset)):
        metric, direction = FALLBACK_METRIC, None
    return EarlyStopping(
        spec,
        metric_key(metric),
        metric_direction(metric, direction, "train.early_stopping"),
        keep_weights=job.train.keep == "best" and (spec is None or spec.restore_best),
    )


def _is_by_default(job: Job) -> bool:
    """Return whether the user leaves open by which metric the best epoch is chosen, and the log loss is measured.

    Where classes are weighted, the log loss rises on purpose.
    """
    spec, train = job.train.stopping, job.train
    is_open = spec is None or (spec.metric is None and spec.direction is None)
    return is_open and FALLBACK_METRIC in job.metrics and train.class_weights is None


def make_checkpoint_controller(
    job: Job,
    location: Location,
    identity: object,
    gang: World,
    device: torch.device,
    *,
    trained: Checkpointable,
    loader: TrainingLoader,
    switch: StopSwitch,
    on_event: EventHandler,
) -> CheckpointController:
    """Create the part that saves and restores the state of the training.

    Args:
        job: The job.
        location: Directory or URI of the checkpoints.
        identity: What the checkpoints belong to: nested mappings of plain values.
        gang: Position of this rank.
        device: Device of the network.
        trained: The training.
        loader: Loader of the training rows.
        switch: Stop request of this rank.
        on_event: Receives warnings about skipped checkpoints.
    """
    spec = job.train.checkpoint
    metric = spec.best_metric or job.metrics[0]
    best = BestMetric(metric_key(metric), spec.is_lower_better(metric)) if spec.keep_best else None
    backend = open_backend(location)
    manager = CheckpointManager(backend, identity, keep=spec.keep, keep_best=spec.keep_best, best=best)
    return CheckpointController(spec, manager, gang, device, trained, loader, Consensus(gang), switch, on_event)


def use_channels_last(model: nn.Module, on_event: EventHandler) -> None:
    """Store convolution weights in channels-last order."""
    if not any(parameter.ndim == 4 for parameter in model.parameters()):
        text = "train.channels_last: the network has no image convolutions, so this setting has no effect"
        on_event(Message(text, level="warning"))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _require_validation(dataset: Dataset, field_path: str) -> None:
    if not dataset.manifest.rows("validation"):
        raise SpecError(
            f"{field_path}: the dataset has no validation rows to measure progress on; set data.split.validation and"
            " prepare it again"
        )
