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

from farandole.errors import TrainingError
from farandole.events import EpochMetrics, EventHandler, Message, Progress
from farandole.loading import Batch
from farandole.loading.slicing import slice_bounds
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.storage import Location
from farandole.training import build, heartbeat, world
from farandole.training.checkpoint import CheckpointController
from farandole.training.dataset_guard import check_unchanged, explain_dataset_change
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.optim.ema import ExponentialMovingAverage
from farandole.training.optim.precision import LossScaler
from farandole.training.optim.schedule import learning_rate_factor
from farandole.training.profiling import StepProfiler
from farandole.training.stop import StopSwitch
from farandole.training.timing import TimeSplit, gather_time_splits, step_time_metrics
from farandole.training.world import World

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
        identity: What the checkpoints belong to: nested mappings of plain values.
        on_event: Is told of progress; only the chief's is heard.
        log: Records metrics at a step; only the chief's is heard.
        switch: Whether this rank has been asked to stop.
        profiles: Where traces are written, if the job wants them.
    """

    job: Job
    dataset: Dataset
    model: nn.Module
    gang: World
    device: torch.device
    directory: Location
    identity: Any
    on_event: EventHandler
    log: LogMetrics
    switch: StopSwitch = field(default_factory=StopSwitch)
    profiles: Path | None = None
    time_split: TimeSplit = field(default_factory=TimeSplit)
    time_by_rank: list[TimeSplit] = field(default_factory=list)
    rows_per_s: float = 0.0
    steps_done: int = 0
    validation: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        job, spec = self.job, self.job.train
        world.check_horovod_build(spec.horovod, self.device)
        self.model.to(self.device)
        if spec.channels_last:
            build.use_channels_last(self.model, self.on_event)
        self._update = build.make_grad_sync(job, self.model, self.gang)
        self._averaged = ExponentialMovingAverage(self.model, spec.ema.decay) if spec.ema else None
        self._scaler = LossScaler() if spec.precision == "fp16" else None
        self._plateau = build.make_plateau(job, self.dataset)
        self._stopper = build.make_early_stopping(job, self.dataset)
        self._stepper = build.make_stepper(
            job,
            self.dataset,
            self.model,
            self.gang,
            self.device,
            update=self._update,
            scaler=self._scaler,
            averaged=self._averaged,
            time_split=self.time_split,
        )
        self._evaluator = build.make_evaluator(job, self.dataset, self.model, self.gang, self.device)
        self._loader = build.make_loader(job, self.dataset, self.gang, self.device)
        self._total_steps = spec.epochs * self._loader.steps
        self._loss_sum, self._loss_rows, self._logged_step = 0.0, 0, 0
        self._logged_split = TimeSplit()
        self._averaged_is_final = False
        self._saver = CheckpointController(
            spec.checkpoint,
            build.make_checkpoint_manager(job, self.directory, self.identity),
            self.gang,
            self.device,
            trained=self,
            loader=self._loader,
            switch=self.switch,
            on_event=self.on_event,
        )

    def request_stop(self) -> None:
        """Ask all ranks to stop after the same step, and to save their state. One of them is enough."""
        self.switch.ask()

    def fit(self) -> None:
        """Train all epochs that are left.

        Raises:
            TrainingFailed: A loss is not finite, or there is no full batch.
            ModelError: The network returns something of a wrong shape.
            DatasetError: The dataset was prepared again meanwhile.
            Stopped: A rank was asked to stop; the state is saved.
        """
        self._agree()
        world.broadcast_weights(self.model)
        if self._averaged is not None:
            self._averaged.begin()
        first_epoch = self._restore()
        started, rows_trained = time.perf_counter(), 0
        with self._saver:
            for epoch in range(first_epoch, self.job.train.epochs):
                if self._is_over:
                    break
                rows_trained += self._train_epoch(epoch, started, rows_trained)
                # Buffers follow the rows that a rank saw; from here on all go by the chief's, which are the model's.
                world.broadcast_buffers(self.model)
                self._validate(epoch)
                self._save(epoch)
        self.switch.all_steps_done(self.steps_done)
        if not rows_trained:  # it broke after its last epoch: nothing to train, much to tell
            with self._final_weights():
                self._measure(first_epoch - 1)
        self._take_final_weights()
        self.time_by_rank, _ = gather_time_splits(self.time_split, "time.total")
        trained_s = self.time_split.training_s
        self.rows_per_s = rows_trained / trained_s if trained_s else 0.0

    def evaluate(self, split: str) -> EvaluationResult | None:
        """The model on a split, gathered from all ranks; None where the split is empty."""
        with self._final_weights(), explain_dataset_change(self.dataset):
            return self._evaluator.evaluate(split)

    # State ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds of this trainer and that is the same on all ranks, of tensors and plain values.
        All ranks have to call it: what is sharded is gathered."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self._update.state_dict()}
        return state | {name: part.state_dict() for name, part in self._parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state, of any number of ranks."""
        self.model.load_state_dict(state["model"])
        self._update.load_state_dict(state["optimizer"])
        for name, part in self._parts.items():
            if name in state:
                part.load_state_dict(state[name])

    def partial_sums(self) -> list[float]:
        """This rank's losses and rows since the last one that was logged."""
        return [self._loss_sum, float(self._loss_rows)]

    def load_partial_sums(self, sums: list[float]) -> None:
        """Go on from such sums."""
        self._loss_sum, self._loss_rows = sums[0], int(sums[1])

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

    def _restore(self) -> int:
        """Go on from the newest checkpoint, as the chief sees it; returns the first epoch to train."""
        self.steps_done, first_epoch = self._saver.restore()
        self._logged_step = self.steps_done
        if self.steps_done:
            inside = self.steps_done > first_epoch * self._loader.steps
            where = f"in epoch {first_epoch + 1}" if inside else f"after epoch {first_epoch}"
            self.on_event(Message(f"goes on {where}, step {self.steps_done}"))
        return first_epoch

    # Training ---------------------------------------------------------------------------------------------------

    def _agree(self) -> None:
        """All ranks must read the same dataset, and make the same number of steps, or the last would wait for ever."""
        digest = self.dataset.manifest.digest
        if world.broadcast_object(digest, "digest") != digest:
            raise TrainingError(
                f"{self.dataset.directory}: rank {self.gang.rank} reads another dataset than rank 0; it was prepared"
                " again meanwhile, or the hosts have different ones: train again"
            )
        steps = self._loader.steps
        total = world.all_reduce_sum([float(steps)], "steps")[0]
        if total != steps * self.gang.size:
            raise TrainingError(
                f"{self.dataset.directory}: rank {self.gang.rank} sees {steps} steps, others see another number; give"
                " all workers the same dataset"
            )
        if not steps:
            rows, size = self.dataset.manifest.rows("train"), self.job.train.global_batch_size
            raise TrainingError(
                f"train.tail: drop leaves no step: {rows} training rows do not fill a global batch of {size}; use a"
                " smaller train.global_batch_size, or `tail: weight`"
            )

    def _train_epoch(self, epoch: int, started: float, rows_before: int) -> int:
        """The steps of an epoch that are left; returns their rows, over all ranks."""
        if self.gang.is_rank_zero:
            check_unchanged(self.dataset)
        self.model.train()
        spec, rows_done, reported = self.job.train, 0, time.perf_counter()
        skipped = self.steps_done - epoch * self._loader.steps
        skipped_rows = skipped * spec.global_batch_size
        with StepProfiler(self.profiles, self.gang, spec.profile and not epoch) as profile:
            for step, batch in enumerate(self._waited_for(iter(self._loader)), start=skipped + 1):
                is_last = step == self._loader.steps
                self._saver.before_step(self.steps_done + 1)
                self._step(batch, epoch, step)
                profile.step()
                rows_done += batch.global_rows
                if self.steps_done % spec.log_every_steps == 0 or is_last:
                    self._log_steps()
                now = time.perf_counter()
                if now - reported > _REPORT_S:
                    reported = now
                    self._report(epoch, skipped_rows + rows_done, rows_before + rows_done, now - started)
                with self.time_split.spent_on("checkpoint"):
                    self._saver.after_step(self.steps_done, epoch, ends_epoch=is_last)
        self._report(epoch, skipped_rows + rows_done, rows_before + rows_done, time.perf_counter() - started)
        return rows_done

    def _step(self, batch: Batch, epoch: int, step: int) -> None:
        """One optimizer step, the epoch's `step`th from 1."""
        loss = self._stepper.take(
            batch, self.steps_done + 1, self._rate(self.steps_done), lambda: self._row_ids(epoch, step - 1)
        )
        self.steps_done += 1
        heartbeat.record_step(self.steps_done, self.steps_done // self._loader.steps)
        self._loss_sum, self._loss_rows = self._loss_sum + loss, self._loss_rows + batch.rows

    def _rate(self, step: int) -> float:
        """The learning rate of the step that follows so many others."""
        spec = self.job.train
        factor = learning_rate_factor(spec.schedule, step, self._total_steps)
        return spec.learning_rate * factor * (self._plateau.factor if self._plateau else 1.0)

    def _row_ids(self, epoch: int, step: int) -> np.ndarray:
        """The numbers of this rank's rows of a step in the training split."""
        order = self._loader.order(epoch)
        addresses = order.row_addresses(step, *slice_bounds(self.gang.rank, self.gang.size, order.batch_rows(step)))
        first_rows = np.concatenate([[0], np.cumsum(order.block_rows)])
        found: np.ndarray = first_rows[addresses.block] + addresses.row
        return found

    def _waited_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with self.time_split.spent_on("data_wait"), explain_dataset_change(self.dataset):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _log_steps(self) -> None:
        """Log the loss and the time of the steps since the last log."""
        now = TimeSplit(*self.time_split.seconds)
        splits, (total_loss, total_rows) = gather_time_splits(
            now.since(self._logged_split), "train.log", tuple(self.partial_sums())
        )
        rate = self._rate(self.steps_done - 1)
        logged = {"train.loss": total_loss / max(total_rows, 1.0), "train.learning_rate": rate}
        if self._scaler is not None:
            logged["train.loss_scale"] = self._scaler.scale
        self.log(logged | step_time_metrics(splits, self.steps_done - self._logged_step), self.steps_done)
        self._loss_sum, self._loss_rows = 0.0, 0
        self._logged_split, self._logged_step = now, self.steps_done

    def _report(self, epoch: int, rows_done: int, rows_in_all: int, elapsed_s: float) -> None:
        rows = self.dataset.manifest.rows("train")
        done, total = epoch * rows + rows_done, self.job.train.epochs * rows
        text = f"epoch {epoch + 1} of {self.job.train.epochs}"
        self.on_event(Progress("train", done, total, "rows", text, rows_in_all / max(elapsed_s, 1e-9)))

    # The end of an epoch, and of all ------------------------------------------------------------------------------

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
            self.on_event(Message(f"stopped after epoch {epoch + 1}: {metric} was {best} at best, and gets no better"))

    def _measure(self, epoch: int) -> None:
        with self.time_split.spent_on("evaluate"), explain_dataset_change(self.dataset):
            result = self._evaluator.evaluate("validation")
        if result is None:
            return
        self.validation = result.metrics
        self.log({f"validation.{name}": value for name, value in result.metrics.items()}, self.steps_done)
        self.on_event(EpochMetrics(epoch + 1, self.job.train.epochs, result.metrics))

    def _save(self, epoch: int) -> None:
        with self.time_split.spent_on("checkpoint"):
            last = epoch + 1 == self.job.train.epochs or self._is_over
            self._saver.after_epoch(self.steps_done, epoch + 1, self.validation, last=last)

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
