"""The training loop of one rank. Reads top to bottom: restore, epochs of steps, evaluate, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from farandole.errors import SpecError, TrainingFailed
from farandole.loading import Augmentation, Batch, TrainingLoader
from farandole.loading.assign import slice_of
from farandole.progress import Advanced, Noted, Watcher
from farandole.shards import Dataset
from farandole.spec import Job, direction_of
from farandole.training import checkpoint, world
from farandole.training.ema import Averaged
from farandole.training.evaluation import Evaluated, Evaluator
from farandole.training.objective import class_weights, loss_function, measure, metric_functions, metric_key
from farandole.training.precision import LossScaler
from farandole.training.profiling import Profile
from farandole.training.schedule import Plateau, rate_factor
from farandole.training.step import Stepper
from farandole.training.timing import TimeSplit, gather_splits, step_times
from farandole.training.update import Update, WholeUpdate
from farandole.training.watched import Stopper
from farandole.training.world import World
from farandole.training.zero import ShardedUpdate

_REPORT_S = 0.5
"""Seconds between two reports of progress."""

LogMetrics = Callable[[dict[str, float], int], None]


@dataclass
class Trainer:
    """One rank's part in training a model.

    Args:
        job: The job.
        dataset: The prepared dataset.
        model: The network, the same on all ranks after `fit` began.
        gang: Which rank this is.
        device: Where the network computes.
        directory: Where checkpoints lie.
        identity: What the checkpoints belong to.
        watch: Is told of progress; only the chief's is heard.
        log: Records metrics at a step; only the chief's is heard.
    """

    job: Job
    dataset: Dataset
    model: nn.Module
    gang: World
    device: torch.device
    directory: Path
    identity: str
    watch: Watcher
    log: LogMetrics
    time_split: TimeSplit = field(default_factory=TimeSplit)
    time_by_rank: list[TimeSplit] = field(default_factory=list)
    rows_per_s: float = 0.0
    steps_done: int = 0
    validation: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = self.job.train
        world.check_build(spec.horovod)
        self._label = self.dataset.manifest.columns.target
        self.model.to(self.device)
        if spec.channels_last:
            self._use_channels_last()
        self._update: Update = (ShardedUpdate if spec.shard_optimizer else WholeUpdate)(spec, self.model, self.gang)
        self._averaged = Averaged(self.model, spec.ema.decay) if spec.ema else None
        self._scaler = LossScaler() if spec.precision == "fp16" else None
        self._plateau, self._stopper = self._watched()
        self._stepper = self._make_stepper()
        self._evaluator = self._make_evaluator()
        self._loader = TrainingLoader(
            self.dataset,
            global_batch_size=spec.global_batch_size,
            rank=self.gang.rank,
            size=self.gang.size,
            seed=spec.seed,
            tail=spec.tail,
            pin=self.device.type == "cuda",
            transform=Augmentation(spec.augment, self.dataset, spec.seed) if spec.augment else None,
        )
        self._total_steps = spec.epochs * self._loader.steps
        self._logged_split = TimeSplit()
        self._averaged_is_final = False

    def fit(self) -> None:
        """Train all epochs that are left.

        Raises:
            TrainingFailed: A loss is not finite, or there is no full batch.
            ModelError: The network returns something of a wrong shape.
        """
        self._agree()
        first_epoch = self._restore()
        world.broadcast_weights(self.model)
        if self._averaged is not None and not self.steps_done:
            self._averaged.begin()
        started, rows_trained = time.perf_counter(), 0
        for epoch in range(first_epoch, self.job.train.epochs):
            if self._is_over:
                break
            rows_trained += self._train_epoch(epoch, started, rows_trained)
            # Buffers follow the rows that a rank saw; from here on all go by the chief's, which are the model's.
            world.broadcast_buffers(self.model)
            self._validate(epoch)
            self._save(epoch)
        if not rows_trained:  # it broke after its last epoch: nothing to train, much to tell
            with self._final_weights():
                self._measure(first_epoch - 1)
        self._take_final_weights()
        self.time_by_rank, _ = gather_splits(self.time_split, "time.total")
        trained_s = self.time_split.training_s
        self.rows_per_s = rows_trained / trained_s if trained_s else 0.0

    def evaluate(self, split: str) -> Evaluated | None:
        """The model on a split, gathered from all ranks; None where the split is empty."""
        with self._final_weights():
            return self._evaluator.evaluate(split)

    def state(self) -> dict[str, Any]:
        """All that a training needs to go on, of tensors and plain values. All ranks have to call it: what is sharded
        is gathered."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self._update.state_dict()}
        for name, part in self._parts.items():
            state[name] = part.state_dict()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state, of any number of ranks."""
        self.model.load_state_dict(state["model"])
        self._update.load_state_dict(state["optimizer"])
        for name, part in self._parts.items():
            if name in state:
                part.load_state_dict(state[name])

    @property
    def _parts(self) -> dict[str, Any]:
        """What has a state beside model and optimizer, as far as the job uses it."""
        parts = {
            "average": self._averaged,
            "scaler": self._scaler,
            "plateau": self._plateau,
            "stopper": self._stopper,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _watched(self) -> tuple[Plateau | None, Stopper | None]:
        """What follows the validation metrics.

        Raises:
            SpecError: There is nothing to validate on.
        """
        spec, stopping = self.job.train.schedule, self.job.train.early_stopping
        for place, used in (("schedule: plateau", spec.name == "plateau"), ("early_stopping", stopping is not None)):
            if used and not self.dataset.manifest.rows("validation"):
                raise SpecError(
                    f"train.{place}: there are no validation rows to go by; set data.split.validation, prepare"
                )
        plateau = stopper = None
        if spec.name == "plateau":
            metric = spec.metric or self.job.metrics[0]
            plateau = Plateau(spec, metric_key(metric), direction_of(metric, spec.direction, "train.schedule"))
        if stopping is not None:
            metric = stopping.metric or self.job.metrics[0]
            direction = direction_of(metric, stopping.direction, "train.early_stopping")
            stopper = Stopper(stopping, metric_key(metric), direction)
        return plateau, stopper

    def _make_stepper(self) -> Stepper:
        spec = self.job.train
        weights = class_weights(self.job, self.dataset, self.gang)
        return Stepper(
            spec=spec,
            model=self.model,
            forward=torch.compile(self.model) if spec.compile else self.model,
            loss=loss_function(
                spec.loss, self._label, smoothing=spec.label_smoothing, weights=weights, folder=self.job.folder
            ),
            label=self._label,
            update=self._update,
            scaler=self._scaler,
            averaged=self._averaged,
            gang=self.gang,
            device=self.device,
            time_split=self.time_split,
        )

    def _make_evaluator(self) -> Evaluator:
        own = metric_functions(self.job)
        return Evaluator(
            self.dataset,
            self.model,
            self.gang,
            self.device,
            self.job.train.precision,
            lambda outputs, label: measure(self.job.metrics, outputs, label, self._label, own),
        )

    def _use_channels_last(self) -> None:
        if not any(parameter.ndim == 4 for parameter in self.model.parameters()):
            text = "train.channels_last: the network has no convolutions of images, so it has no effect"
            self.watch(Noted(text, level="warning"))
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _agree(self) -> None:
        """All ranks must read the same dataset, and make the same number of steps, or the last would wait for ever."""
        digest = self.dataset.manifest.digest
        if world.broadcast_object(digest, "digest") != digest:
            raise TrainingFailed(
                f"{self.dataset.directory}: rank {self.gang.rank} reads another dataset than rank 0; it was prepared"
                " again meanwhile, or the hosts have different ones: train again"
            )
        steps = self._loader.steps
        total = world.sum_over_ranks([float(steps)], "steps")[0]
        if total != steps * self.gang.size:
            raise TrainingFailed(
                f"{self.dataset.directory}: rank {self.gang.rank} sees {steps} steps, others see another number; give"
                " all workers the same dataset"
            )
        if not steps:
            rows, size = self.dataset.manifest.rows("train"), self.job.train.global_batch_size
            raise TrainingFailed(
                f"train.tail: drop leaves no step: {rows} training rows do not fill a global batch of {size}; use a"
                " smaller train.global_batch_size, or `tail: weight`"
            )

    def _restore(self) -> int:
        """Go on from the newest checkpoint, as the chief sees it; returns the first epoch to train."""
        found = None
        if self.gang.is_chief:
            found = checkpoint.load_newest(
                self.directory, self.identity, lambda text: self.watch(Noted(text, level="warning"))
            )
        found = world.broadcast_object(found, "checkpoint")
        if found is None:
            return 0
        self.load(found.state)
        self.steps_done = found.step
        self.watch(Noted(f"goes on after epoch {found.epoch}, step {found.step}"))
        return int(found.epoch)

    def _train_epoch(self, epoch: int, started: float, rows_before: int) -> int:
        self.model.train()
        spec, rows_done = self.job.train, 0
        loss_sum, loss_rows, logged, reported = 0.0, 0, self.steps_done, time.perf_counter()
        profile = Profile(self.directory.parent / "profile", self.gang, spec.profile and not epoch)
        with profile:
            for place, batch in enumerate(self._waited_for(self._loader.epoch(epoch))):
                loss_sum += self._step(batch, epoch, place)
                self.steps_done += 1
                profile.step()
                rows_done, loss_rows = rows_done + batch.global_rows, loss_rows + batch.rows
                if self.steps_done % spec.log_every_steps == 0:
                    self._log_steps(loss_sum, loss_rows, self.steps_done - logged)
                    loss_sum, loss_rows, logged = 0.0, 0, self.steps_done
                now = time.perf_counter()
                if now - reported > _REPORT_S:
                    reported = now
                    self._report(epoch, rows_done, rows_before + rows_done, now - started)
        if self.steps_done > logged:
            self._log_steps(loss_sum, loss_rows, self.steps_done - logged)
        self._report(epoch, rows_done, rows_before + rows_done, time.perf_counter() - started)
        return rows_done

    def _step(self, batch: Batch, epoch: int, place: int) -> float:
        """One optimizer step; returns the sum of this rank's losses."""
        return self._stepper.take(batch, self.steps_done + 1, self._rate(), lambda: self._row_ids(epoch, place))

    def _rate(self) -> float:
        """The learning rate of the next step."""
        spec = self.job.train
        factor = rate_factor(spec.schedule, self.steps_done, self._total_steps)
        return spec.learning_rate * factor * (self._plateau.factor if self._plateau else 1.0)

    def _row_ids(self, epoch: int, step: int) -> np.ndarray:
        """The numbers of this rank's rows of a step in the training split."""
        order = self._loader.order(epoch)
        places = order.places(step, *slice_of(self.gang.rank, self.gang.size, order.batch_rows(step)))
        first_rows = np.concatenate([[0], np.cumsum(order.block_rows)])
        found: np.ndarray = first_rows[places.block] + places.row
        return found

    def _waited_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with self.time_split.spent_on("data_wait"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _log_steps(self, loss_sum: float, rows: int, steps: int) -> None:
        """Log the loss and the time of the steps since the last log."""
        now = TimeSplit(*self.time_split.seconds)
        splits, (total_loss, total_rows) = gather_splits(
            now.since(self._logged_split), "train.log", (loss_sum, float(rows))
        )
        self._logged_split = now
        logged = {"train.loss": total_loss / max(total_rows, 1.0), "train.learning_rate": self._last_rate()}
        if self._scaler is not None:
            logged["train.loss_scale"] = self._scaler.scale
        self.log(logged | step_times(splits, steps), self.steps_done)

    def _last_rate(self) -> float:
        """The learning rate of the step that was taken last."""
        self.steps_done -= 1
        try:
            return self._rate()
        finally:
            self.steps_done += 1

    def _validate(self, epoch: int) -> None:
        """Measure, and let those learn of it that go by it."""
        with self._final_weights():
            self._measure(epoch)
            if self._plateau is not None:
                self._plateau.validated(self.validation)
            if self._stopper is not None:
                self._stopper.validated(self.validation, self.model.state_dict())
        if self._stopper is not None and self._stopper.over and epoch + 1 < self.job.train.epochs:
            best, metric = self._stopper.best, self._stopper.metric
            self.watch(Noted(f"stopped after epoch {epoch + 1}: {metric} was {best} at best, and gets no better"))

    def _measure(self, epoch: int) -> None:
        with self.time_split.spent_on("evaluate"):
            result = self._evaluator.evaluate("validation")
        if result is None:
            return
        self.validation = result.metrics
        self.log({f"validation.{name}": value for name, value in result.metrics.items()}, self.steps_done)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
        self.watch(Noted(f"epoch {epoch + 1} of {self.job.train.epochs}: validation {shown}"))

    @property
    def _is_over(self) -> bool:
        """Whether training ends before its last epoch."""
        return self._stopper is not None and self._stopper.over

    def _final_weights(self) -> AbstractContextManager[None]:
        """In this context the network has the weights by which it is judged."""
        if self._averaged is None or self._averaged_is_final:
            return nullcontext()
        return self._averaged.in_place()

    def _take_final_weights(self) -> None:
        """At the end of training, the network is the average, or the best one, if so asked."""
        if self._averaged is not None:
            self._averaged.swap()
            self._averaged_is_final = True
        if self._stopper is not None and self._stopper.weights is not None:
            self.model.load_state_dict(self._stopper.weights)
            self.validation = dict(self._stopper.metrics)

    def _save(self, epoch: int) -> None:
        spec = self.job.train
        last = epoch + 1 == spec.epochs or self._is_over
        if not (last or (epoch + 1) % spec.checkpoint.every_epochs == 0):
            return
        with self.time_split.spent_on("checkpoint"):
            # No random state: each step seeds its own, so a resumed one draws the same numbers.
            state = self.state()
            if not self.gang.is_chief:
                return
            saved = checkpoint.Checkpoint(self.steps_done, epoch + 1, state)
            try:
                checkpoint.save(self.directory, saved, self.identity, spec.checkpoint.keep)
            except (OSError, RuntimeError) as error:  # torch's own writer turns a full disk into a RuntimeError
                reason = (error.strerror if isinstance(error, OSError) else None) or error
                raise TrainingFailed(
                    f"{self.directory}: the checkpoint of epoch {epoch + 1} cannot be written ({reason}); free some"
                    " space or mend the permissions, then `farandole train --resume` goes on from the one before"
                ) from error

    def _report(self, epoch: int, rows_done: int, rows_in_all: int, elapsed_s: float) -> None:
        rows = self.dataset.manifest.rows("train")
        done, total = epoch * rows + rows_done, self.job.train.epochs * rows
        text = f"epoch {epoch + 1} of {self.job.train.epochs}"
        self.watch(Advanced("train", done, total, "rows", text, rows_in_all / max(elapsed_s, 1e-9)))
