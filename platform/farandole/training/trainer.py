"""The training loop of one rank. Reads top to bottom: restore, epochs of steps, evaluate, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from farandole.errors import TrainingFailed
from farandole.loading import Augmentation, Batch, EvaluationLoader, TrainingLoader
from farandole.progress import Advanced, Measured, Noted, Watcher
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training import checkpoint, world
from farandole.training.objective import check_outputs, loss_function, measure
from farandole.training.optimizer import build_optimizer, rate_factor
from farandole.training.world import World

_REPORT_S = 0.5
"""Seconds between two reports of progress."""

LogMetrics = Callable[[dict[str, float], int], None]


@dataclass
class TimeSplit:
    """Where a rank's time went, in seconds."""

    data_wait_s: float = 0.0
    compute_s: float = 0.0
    all_reduce_wait_s: float = 0.0
    evaluate_s: float = 0.0
    checkpoint_s: float = 0.0

    @contextmanager
    def spent_on(self, part: str) -> Iterator[None]:
        """Add the time of the block to one part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, f"{part}_s", getattr(self, f"{part}_s") + time.perf_counter() - start)


@dataclass(frozen=True)
class Evaluated:
    """A split as the model sees it, on every rank: outputs `[B, O]`, label `[B]`, and the metrics."""

    outputs: torch.Tensor
    label: torch.Tensor
    metrics: dict[str, float]


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
    rows_per_s: float = 0.0
    steps_done: int = 0
    validation: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = self.job.train
        self._label = self.dataset.manifest.columns.target
        self._loss = loss_function(spec.loss, self._label)
        self.model.to(self.device)
        self._optimizer = world.sum_gradients(build_optimizer(spec.optimizer, self.model), self.model)
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

    def fit(self) -> None:
        """Train all epochs that are left.

        Raises:
            TrainingFailed: A loss is not finite, or there is no full batch.
            ModelError: The network returns something of a wrong shape.
        """
        self._agree()
        first_epoch = self._restore()
        world.broadcast_weights(self.model)
        started, rows_trained = time.perf_counter(), 0
        for epoch in range(first_epoch, self.job.train.epochs):
            rows_trained += self._train_epoch(epoch, started, rows_trained)
            # Buffers follow the rows that a rank saw; from here on all go by the chief's, which are the model's.
            world.broadcast_buffers(self.model)
            self._validate(epoch)
            self._save(epoch)
        if first_epoch == self.job.train.epochs:  # it broke after its last epoch: nothing to train, much to tell
            self._validate(first_epoch - 1)
        trained_s = self.time_split.data_wait_s + self.time_split.compute_s + self.time_split.all_reduce_wait_s
        self.rows_per_s = rows_trained / trained_s if trained_s else 0.0

    def evaluate(self, split: str) -> Evaluated | None:
        """The model on a split, gathered from all ranks; None where the split is empty."""
        if not self.dataset.manifest.rows(split):
            return None
        loader = EvaluationLoader(self.dataset, split, rank=self.gang.rank, size=self.gang.size)
        outputs, labels = [], []
        self.model.eval()
        with torch.no_grad():
            for batch in loader:
                on_device = batch.to(self.device)
                outputs.append(self.model(**on_device.features).float().cpu())
                labels.append(batch.label)
        empty = torch.empty((0, self._label.num_outputs))
        all_outputs = world.gather_rows(torch.cat([*outputs, empty]), f"{split}.outputs")
        # An empty label first, so that a rank without rows still has a tensor of the right type.
        empty_label = torch.empty(0, dtype=torch.float32 if self._label.kind == "regression" else torch.int32)
        all_labels = world.gather_rows(torch.cat([empty_label, *labels]), f"{split}.label")
        return Evaluated(all_outputs, all_labels, measure(self.job.metrics, all_outputs, all_labels, self._label))

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
        self.model.load_state_dict(found.state["model"])
        self._optimizer.load_state_dict(found.state["optimizer"])
        self.steps_done = found.step
        self.watch(Noted(f"goes on after epoch {found.epoch}, step {found.step}"))
        return int(found.epoch)

    def _seed_epoch(self, epoch: int) -> None:
        """Dropout must differ between ranks, and be the same whether or not the training was interrupted."""
        torch.manual_seed((self.job.train.seed * 1_000_003 + epoch) * 4_096 + self.gang.rank)

    def _train_epoch(self, epoch: int, started: float, rows_before: int) -> int:
        self.model.train()
        self._seed_epoch(epoch)
        spec, rows_done = self.job.train, 0
        loss_sum, loss_rows, reported = 0.0, 0, time.perf_counter()
        for batch in self._waited_for(self._loader.epoch(epoch)):
            loss = self._step(batch)
            self.steps_done += 1
            rows_done += batch.global_rows
            loss_sum, loss_rows = loss_sum + loss, loss_rows + batch.rows
            if self.steps_done % spec.log_every_steps == 0:
                self._log_loss(loss_sum, loss_rows)
                loss_sum, loss_rows = 0.0, 0
            now = time.perf_counter()
            if now - reported > _REPORT_S:
                reported = now
                self._report(epoch, rows_done, rows_before + rows_done, now - started)
        if self.steps_done % spec.log_every_steps:
            self._log_loss(loss_sum, loss_rows)
        self._report(epoch, rows_done, rows_before + rows_done, time.perf_counter() - started)
        return rows_done

    def _step(self, batch: Batch) -> float:
        """One optimizer step; returns the sum of this rank's losses."""
        spec = self.job.train
        with self.time_split.spent_on("compute"):
            factor = rate_factor(spec.schedule, self.steps_done, self._total_steps)
            for group in self._optimizer.param_groups:
                group["lr"] = spec.optimizer.learning_rate * factor
            loss = self._loss_of(batch.to(self.device))
            torch.autograd.backward(loss / batch.global_rows)
            value = loss.item()
        if not math.isfinite(value):
            raise TrainingFailed(
                f"train: the loss is {value} at step {self.steps_done + 1} on rank {self.gang.rank}; lower"
                f" train.optimizer.learning_rate ({spec.optimizer.learning_rate}) or set train.clip_norm"
            )
        with self.time_split.spent_on("all_reduce_wait"):
            self._optimizer.wait()
        with self.time_split.spent_on("compute"):
            if spec.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), spec.clip_norm)
            self._optimizer.step()
            self._optimizer.zero_grad()
        return value

    def _loss_of(self, batch: Batch) -> torch.Tensor:
        if not batch.rows:  # a tail smaller than the gang: take part in the sum with zeros
            return torch.stack([parameter.sum() * 0 for parameter in self.model.parameters()]).sum()
        outputs = self.model(**batch.features)
        check_outputs(outputs, batch.rows, self._label)
        return self._loss(outputs, batch.label)

    def _waited_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with self.time_split.spent_on("data_wait"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _log_loss(self, loss_sum: float, rows: int) -> None:
        total_loss, total_rows = world.sum_over_ranks([loss_sum, float(rows)], "train.loss")
        rate = self._optimizer.param_groups[0]["lr"]
        self.log({"train.loss": total_loss / max(total_rows, 1.0), "train.learning_rate": rate}, self.steps_done)

    def _validate(self, epoch: int) -> None:
        with self.time_split.spent_on("evaluate"):
            result = self.evaluate("validation")
        if result is None:
            return
        self.validation = result.metrics
        self.log({f"validation.{name}": value for name, value in result.metrics.items()}, self.steps_done)
        self.watch(Measured(epoch + 1, self.job.train.epochs, result.metrics))

    def _save(self, epoch: int) -> None:
        spec = self.job.train
        last = epoch + 1 == spec.epochs
        if not self.gang.is_chief or not (last or (epoch + 1) % spec.checkpoint.every_epochs == 0):
            return
        with self.time_split.spent_on("checkpoint"):
            # No random state: each epoch seeds its own, so a resumed one draws the same numbers.
            state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}
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
