"""Training loop of one rank. Reads top to bottom: restore, train epochs of steps, evaluate, save."""

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
from farandole.events import EpochMetrics, EventHandler, Message, Progress, format_metric
from farandole.loading import Batch
from farandole.loading.slicing import slice_bounds
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.storage import Location
from farandole.training import build, heartbeat, world
from farandole.training.checkpoint import weights_digest
from farandole.training.dataset_guard import check_unchanged, explain_dataset_change
from farandole.training.evaluation.evaluator import EvaluationResult, check_evaluation
from farandole.training.optim.ema import ExponentialMovingAverage
from farandole.training.optim.schedule import learning_rate_factor
from farandole.training.precision import LossScaler
from farandole.training.profiling import StepProfiler
from farandole.training.result import TrainingResult
from farandole.training.single_rows import check_single_rows
from farandole.training.stop import StopSwitch
from farandole.training.timing import TimeSplit, gather_time_splits, step_time_metrics
from farandole.training.world import World

_REPORT_INTERVAL_S = 0.5

LogMetrics = Callable[[dict[str, float], int], None]


@dataclass
class Trainer:
    """One rank's part in training a model.

    Args:
        job: The job.
        dataset: The prepared dataset.
        model: The network; `fit` makes it the same on all ranks.
        gang: Position of this rank.
        device: Device of the network.
        directory: Directory or URI of the checkpoints.
        identity: What the checkpoints belong to: nested mappings of plain values.
        on_event: Receives progress; only rank zero's should report it.
        log: Logs metrics at a step; only rank zero's should record them.
        switch: Stop request of this rank.
        profiles: Directory of traces, if the job configures them.
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
    steps_done: int = 0
    validation: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        job, spec = self.job, self.job.train
        world.check_horovod_build(spec.horovod, self.device)
        build.initialize_inputs(job, self.dataset, self.model)
        build.initialize_output(job, self.dataset, self.model, self.gang)
        self.model.to(self.device)
        self._pruning = build.make_pruning(job, self.model, self.directory)
        self._distillation = build.make_distillation(job, self.dataset, self.directory, self.device)
        check_single_rows(job, self.dataset, self.model, self.gang, self.device)
        check_evaluation(self.dataset, self.model, self.device)
        if spec.channels_last:
            build.use_channels_last(self.model, self.on_event)
        self._grad_sync = build.make_grad_sync(job, self.model, self.gang)
        self._average = ExponentialMovingAverage(self.model, spec.average.decay) if spec.average else None
        self._scaler = LossScaler() if spec.precision == "fp16" else None
        self._plateau = build.make_plateau(job, self.dataset)
        self._early_stopping = build.make_early_stopping(job, self.dataset, self.on_event)
        self._stepper = build.make_stepper(
            job,
            self.dataset,
            self.model,
            self.gang,
            self.device,
            grad_sync=self._grad_sync,
            scaler=self._scaler,
            average=self._average,
            distillation=self._distillation,
            pruning=self._pruning,
            time_split=self.time_split,
        )
        self._evaluator = build.make_evaluator(job, self.dataset, self.model, self.gang, self.device)
        self._loader = build.make_loader(job, self.dataset, self.gang, self.device)
        self._total_steps = spec.num_epochs * self._loader.steps
        self._loss_sum, self._loss_rows, self._logged_step = 0.0, 0, 0
        self._logged_split = TimeSplit()
        self._weights_step = 0
        self._is_average_final = False
        self._checkpoints = build.make_checkpoint_controller(
            job,
            self.directory,
            self.identity,
            self.gang,
            self.device,
            trained=self,
            loader=self._loader,
            switch=self.switch,
            on_event=self.on_event,
        )

    def request_stop(self) -> None:
        """Request that all ranks stop after the same step and save their state. One request is enough."""
        self.switch.request()

    def fit(self) -> TrainingResult:
        """Train the remaining epochs.

        Raises:
            TrainingError: A loss is not finite, or the training split does not fill a batch.
            ModelError: The network returns something of a wrong shape.
            DatasetError: The dataset was prepared again during training.
            Stopped: A rank was asked to stop; the state is saved.
        """
        self._check_agreement()
        world.broadcast_weights(self.model)
        if self._average is not None:
            self._average.reset()
        first_epoch = self._restore()
        started, rows_trained = time.perf_counter(), 0
        with self._checkpoints:
            for epoch in range(first_epoch, self.job.train.num_epochs):
                if self._is_over:
                    break
                rows_trained += self._train_epoch(epoch, started, rows_trained)
                # Buffers depend on the rows that a rank has seen; from here on all ranks use rank zero's, the model's.
                world.broadcast_buffers(self.model)
                self._validate(epoch)
                self._save(epoch)
        self.switch.finish_steps(self.steps_done)
        if not rows_trained:  # interrupted after the last epoch: nothing left to train, only to report
            with self._final_weights():
                self._evaluate_validation(first_epoch - 1)
        self._apply_final_weights()
        return self._result(rows_trained)

    def evaluate(self, split: str) -> EvaluationResult | None:
        """Evaluate the model on a split, on all ranks; returns None if the split is empty."""
        with self._final_weights():
            return self._evaluator.evaluate(split)

    def evaluate_teacher(self, split: str) -> EvaluationResult | None:
        """Evaluate the teacher on a split, on all ranks; returns None if the job has none, or the split is empty."""
        if self._distillation is None:
            return None
        teacher = self._distillation.teacher
        return build.make_evaluator(self.job, self.dataset, teacher, self.gang, self.device, "fp32").evaluate(split)

    # State ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the part of a checkpoint that is the same on all ranks, as tensors and plain values.

        All ranks have to call it, because sharded state is gathered.
        """
        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self._grad_sync.state_dict()}
        return state | {name: part.state_dict() for name, part in self._stateful_parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state saved by any number of ranks."""
        self.model.load_state_dict(state["model"])
        self._grad_sync.load_state_dict(state["optimizer"])
        for name, part in self._stateful_parts.items():
            if name in state:
                part.load_state_dict(state[name])

    def partial_sums(self) -> list[float]:
        """Return this rank's losses and rows since the last log."""
        return [self._loss_sum, float(self._loss_rows)]

    def load_partial_sums(self, sums: list[float]) -> None:
        """Restore such sums."""
        self._loss_sum, self._loss_rows = sums[0], int(sums[1])

    @property
    def _stateful_parts(self) -> dict[str, Any]:
        """The configured parts that have a state besides model and optimizer."""
        parts = {
            "average": self._average,
            "scaler": self._scaler,
            "plateau": self._plateau,
            "stopper": self._early_stopping,
            "pruning": self._pruning,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _restore(self) -> int:
        """Restore the newest checkpoint that rank zero finds; returns the first epoch to train."""
        self.steps_done, first_epoch = self._checkpoints.restore()
        self._logged_step = self.steps_done
        if self.steps_done:
            inside = self.steps_done > first_epoch * self._loader.steps
            position = f"in epoch {first_epoch + 1}" if inside else f"after epoch {first_epoch}"
            self.on_event(Message(f"resuming {position}, step {self.steps_done}"))
        return first_epoch

    # Training ---------------------------------------------------------------------------------------------------

    def _check_agreement(self) -> None:
        """Check that all ranks read the same dataset and make the same number of steps; otherwise they would hang."""
        digest = self.dataset.manifest.digest
        if world.broadcast_object(digest, "digest") != digest:
            raise TrainingError(
                f"{self.dataset.directory}: rank {self.gang.rank} reads another dataset than rank 0, because it was"
                " prepared again in the meantime or the hosts have different copies; train again"
            )
        steps = self._loader.steps
        total = world.all_reduce_sum([float(steps)], "steps")[0]
        if total != steps * self.gang.size:
            raise TrainingError(
                f"{self.dataset.directory}: rank {self.gang.rank} counts {steps} steps, other ranks another number;"
                " give all workers the same dataset"
            )
        if not steps:
            rows, size = self.dataset.manifest.rows("train"), self.job.train.batch_rows
            raise TrainingError(
                f"train.tail: drop leaves no step: {rows} training rows do not fill a global batch of {size}; use a"
                " smaller train.global_batch_size, or `tail: weight`"
            )

    def _train_epoch(self, epoch: int, started: float, rows_before: int) -> int:
        """Take the remaining steps of an epoch; returns their rows, over all ranks."""
        if self.gang.is_rank_zero:
            check_unchanged(self.dataset)
        self.model.train()
        spec, rows_done, reported = self.job.train, 0, time.perf_counter()
        skipped = self.steps_done - epoch * self._loader.steps
        skipped_rows = skipped * spec.batch_rows
        with StepProfiler(self.profiles, self.gang, spec.profile and not epoch) as profiler:
            for step, batch in enumerate(self._timed_batches(iter(self._loader)), start=skipped + 1):
                is_last = step == self._loader.steps
                self._checkpoints.before_step(self.steps_done + 1)
                self._take_step(batch, epoch, step)
                profiler.step()
                rows_done += batch.global_rows
                if self.steps_done % spec.log_every_steps == 0 or is_last:
                    self._log_steps()
                now = time.perf_counter()
                if now - reported > _REPORT_INTERVAL_S:
                    reported = now
                    self._report(epoch, skipped_rows + rows_done, rows_before + rows_done, now - started)
                with self.time_split.measure("checkpoint"):
                    self._checkpoints.after_step(self.steps_done, epoch, ends_epoch=is_last)
        self._report(epoch, skipped_rows + rows_done, rows_before + rows_done, time.perf_counter() - started)
        return rows_done

    def _take_step(self, batch: Batch, epoch: int, step: int) -> None:
        """Take one optimizer step, number `step` of the epoch, from 1."""
        loss = self._stepper.take_step(
            batch, self.steps_done + 1, self._learning_rate(self.steps_done), lambda: self._row_ids(epoch, step - 1)
        )
        self.steps_done += 1
        heartbeat.record_step(self.steps_done, self.steps_done // self._loader.steps)
        self._loss_sum, self._loss_rows = self._loss_sum + loss, self._loss_rows + batch.rows

    def _learning_rate(self, steps_before: int) -> float:
        """Return the learning rate of the step after `steps_before` steps."""
        spec = self.job.train
        factor = learning_rate_factor(spec.learning_rate_schedule, steps_before, self._total_steps)
        return spec.learning_rate * factor * (self._plateau.factor if self._plateau else 1.0)

    def _row_ids(self, epoch: int, step: int) -> np.ndarray:
        """Return the numbers, in the training split, of this rank's rows of a step."""
        order = self._loader.order(epoch)
        addresses = order.row_addresses(step, *slice_bounds(self.gang.rank, self.gang.size, order.batch_rows(step)))
        first_rows = np.concatenate([[0], np.cumsum(order.block_rows)])
        ids: np.ndarray = first_rows[addresses.block] + addresses.row
        return ids

    def _timed_batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with self.time_split.measure("data_wait"), explain_dataset_change(self.dataset):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _log_steps(self) -> None:
        """Log loss and time of the steps since the last log."""
        now = self.time_split.copy()
        splits, (total_loss, total_rows) = gather_time_splits(
            now.since(self._logged_split), "train.log", tuple(self.partial_sums())
        )
        learning_rate = self._learning_rate(self.steps_done - 1)
        metrics = {"train.loss": total_loss / max(total_rows, 1.0), "train.learning_rate": learning_rate}
        if self._scaler is not None:
            metrics["train.loss_scale"] = self._scaler.scale
        self.log(metrics | step_time_metrics(splits, self.steps_done - self._logged_step), self.steps_done)
        self._loss_sum, self._loss_rows = 0.0, 0
        self._logged_split, self._logged_step = now, self.steps_done

    def _report(self, epoch: int, rows_done: int, rows_in_all: int, elapsed_s: float) -> None:
        rows = self.dataset.manifest.rows("train")
        done, total = epoch * rows + rows_done, self.job.train.num_epochs * rows
        text = f"epoch {epoch + 1} of {self.job.train.num_epochs}"
        self.on_event(Progress("train", done, total, "rows", text, rows_in_all / max(elapsed_s, 1e-9)))

    # End of an epoch, and of training -----------------------------------------------------------------------------

    def _validate(self, epoch: int) -> None:
        """Evaluate the validation split, and update the parts that depend on it."""
        with self._final_weights():
            self._evaluate_validation(epoch)
            if self._plateau is not None:
                self._plateau.add_validation(self.validation)
            if self._early_stopping is not None:
                self._early_stopping.add_validation(self.validation, self.model.state_dict())
        if self._early_stopping is not None and self._is_over and epoch + 1 < self.job.train.num_epochs:
            best, metric = self._early_stopping.best_value, self._early_stopping.metric
            reason = (
                f"{metric} no longer improves on {format_metric(best)}"
                if best is not None
                else f"{metric} is not a number"
            )
            self.on_event(Message(f"stopped early after epoch {epoch + 1}: {reason}"))

    def _evaluate_validation(self, epoch: int) -> None:
        with self.time_split.measure("evaluate"):
            result = self._evaluator.evaluate("validation")
        if result is None:
            return
        self.validation = result.metrics
        self.log({f"validation.{name}": value for name, value in result.metrics.items()}, self.steps_done)
        self.on_event(EpochMetrics(epoch + 1, self.job.train.num_epochs, result.metrics))

    def _save(self, epoch: int) -> None:
        with self.time_split.measure("checkpoint"):
            is_last = epoch + 1 == self.job.train.num_epochs or self._is_over
            self._checkpoints.after_epoch(self.steps_done, epoch + 1, self.validation, is_last=is_last)

    @property
    def _is_over(self) -> bool:
        """True once training ends before its last epoch."""
        return self._early_stopping is not None and self._early_stopping.should_stop

    def _final_weights(self) -> AbstractContextManager[None]:
        """Use the weights that are evaluated inside the returned context: the average, if there is one."""
        if self._average is None or self._is_average_final:
            return nullcontext()
        return self._average.applied()

    def _apply_final_weights(self) -> None:
        """Give the network its final weights, the best ones or the average, and log their validation."""
        if self._average is not None:
            self._average.swap()
            self._is_average_final = True
        self._weights_step, best = self.steps_done, self._early_stopping
        if best is None or best.best_weights is None or best.best_epoch in (None, len(best.history)):
            return
        self.model.load_state_dict(best.best_weights)
        self._weights_step = self._loader.steps * best.best_epoch
        self.validation = best.best_metrics
        # At the same step as the last epoch's: what a tracking store shows as newest belongs to the model's weights.
        self.log({f"validation.{name}": value for name, value in self.validation.items()}, self.steps_done)

    def _result(self, rows_trained: int) -> TrainingResult:
        """Gather the result of all ranks."""
        time_by_rank, _ = gather_time_splits(self.time_split, "time.total")
        trained_s = self.time_split.training_s
        return TrainingResult(
            workers=self.gang.size,
            steps=self.steps_done,
            rows_per_s=rows_trained / trained_s if trained_s else 0.0,
            weights_digest=weights_digest(self.model.state_dict()),
            validation=self.validation,
            epochs=self._early_stopping.history if self._early_stopping is not None else [],
            best_epoch=self._early_stopping.best_epoch if self._early_stopping is not None else None,
            weights_step=self._weights_step,
            time_split=self.time_split.copy(),
            time_by_rank=tuple(time_by_rank),
        )
