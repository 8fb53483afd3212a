"""Controller of checkpoints: when a training saves its state, and how it resumes.

Rank zero decides when a checkpoint is due, and all ranks learn of it before the step after which it is made, because
each contributes its part. A checkpoint that becomes due inside an epoch while the previous one is still being written
is made as soon as that is finished; those at the end of an epoch, at a stop and at the end of training wait for it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn, Protocol

import torch
from torch import nn

from farandole.errors import TrainingError, remedy_of
from farandole.events import EventHandler, Message
from farandole.loading import TrainingLoader
from farandole.spec import Checkpoint
from farandole.training import world
from farandole.training.checkpoint.manager import CheckpointManager
from farandole.training.checkpoint.rank_state import get_rank_state, set_rank_state
from farandole.training.checkpoint.staging import BackgroundWriter, StagingBuffers, flatten, unflatten
from farandole.training.consensus import Consensus
from farandole.training.stop import Stopped, StopSwitch
from farandole.training.world import World

_GRACE_S = 4.0
"""Time for a running write to finish when the training fails. The launcher kills the worker after 5 seconds."""


class Checkpointable(Protocol):
    """A training whose state can be saved."""

    model: nn.Module

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is the same on all ranks, by name; every rank calls it at the same step."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state saved by any number of ranks."""

    def partial_sums(self) -> list[float]:
        """Return sums of this rank that have not been reduced over the ranks yet."""

    def load_partial_sums(self, sums: list[float]) -> None:
        """Restore such sums."""


class CheckpointController:
    """Saves and restores the state of a training.

    Args:
        spec: When to save.
        manager: Manager of the checkpoints; only rank zero's is used.
        gang: Position of this rank.
        device: Device of the network.
        trained: The training.
        loader: Loader of the training rows.
        consensus: Decides with the other ranks whether to stop or save.
        switch: Stop request of this rank.
        on_event: Receives warnings about skipped checkpoints.

    Raises:
        ModelError: The model has a state that no checkpoint can hold; better reported now than after an epoch.
    """

    def __init__(
        self,
        spec: Checkpoint,
        manager: CheckpointManager,
        gang: World,
        device: torch.device,
        trained: Checkpointable,
        loader: TrainingLoader,
        consensus: Consensus,
        switch: StopSwitch,
        on_event: EventHandler,
    ) -> None:
        self._spec, self._manager, self._gang, self._device = spec, manager, gang, device
        self._trained, self._loader, self._switch, self._on_event = trained, loader, switch, on_event
        flatten(trained.model.state_dict())
        self._consensus = consensus
        self._writer = BackgroundWriter(asynchronous=spec.asynchronous)
        self._staging = StagingBuffers()
        self._saved_step, self._saved_at_s = 0, time.monotonic()
        self._stop_agreed = self._save_agreed = False

    # Restoring --------------------------------------------------------------------------------------------------

    def restore(self) -> tuple[int, int]:
        """Restore the newest valid checkpoint that rank zero finds.

        Returns:
            Completed steps and epochs.

        Raises:
            StorageAccessError: The object store rejects the request.
            StorageError: The object store does not answer.
        """
        meta, state = self._load_newest()
        if meta is None:
            return 0, 0
        ranks, loader = state.pop("ranks"), state.pop("loader")
        self._trained.load_state_dict(state)
        self._loader.load_state_dict(loader)
        if len(ranks) == self._gang.size:
            own = ranks[self._gang.rank]
            self._trained.load_partial_sums(own["sums"])
            set_rank_state(own, self._trained.model, self._device)
        elif self._gang.is_rank_zero:
            self._trained.load_partial_sums([sum(sums) for sums in zip(*(rank["sums"] for rank in ranks), strict=True)])
        self._saved_step = meta["step"]
        return meta["step"], meta["epoch"]

    def _load_newest(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Load the newest checkpoint on rank zero; returns its metadata and state on every rank."""
        meta, tree = None, None
        tensors: list[torch.Tensor] = []
        if self._gang.is_rank_zero:
            self._manager.clean_up()
            loaded = self._manager.load_newest(self._warn, self._find_mismatch)
            if loaded is not None:
                meta = loaded.meta
                tree, tensors = flatten(loaded.state)
                self._warn_of_other_versions(loaded.meta)
        meta, tree, shapes = world.broadcast_object(
            (meta, tree, [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]), "checkpoint"
        )
        tensors = tensors or [torch.empty(shape, dtype=dtype) for shape, dtype in shapes]
        tensors = [world.broadcast_tensor(tensor, f"checkpoint.{number}") for number, tensor in enumerate(tensors)]
        return meta, unflatten(tree, tensors)

    def _find_mismatch(self, state: dict[str, Any]) -> str | None:
        """Describe a weight whose shape differs: the identity holds the builder's name, but not its code."""
        saved, own = state["model"], self._trained.model.state_dict()
        for name in [*own, *saved]:
            before, now = (_describe_tensor(weights.get(name)) for weights in (saved, own))
            if before != now:
                return f"its {name} was {before}, now {now}; the builder's code has changed"
        return None

    def _warn_of_other_versions(self, meta: dict[str, Any]) -> None:
        changed = [
            f"{name} {meta['versions'].get(name)}, now {now}"
            for name, now in _versions().items()
            if meta["versions"].get(name) != now
        ]
        if changed:
            self._warn(f"the checkpoint was written with {', '.join(changed)}: the last bits may differ")

    # Saving -----------------------------------------------------------------------------------------------------

    def before_step(self, step: int) -> None:
        """Submit this rank's vote on what happens after a step: stop, or save.

        Args:
            step: The next step, from 1.

        Raises:
            TrainingError: The last checkpoint could not be written.
        """
        with self._explain_write_error(self._saved_step):
            self._writer.check()
        is_due = self._gang.is_rank_zero and self._is_due(step)
        self._consensus.propose(stop=self._switch.is_requested, save=is_due)

    def after_step(self, step: int, epoch: int, *, ends_epoch: bool) -> None:
        """Save, and stop, as agreed.

        Args:
            step: Completed steps.
            epoch: Completed epochs.
            ends_epoch: Whether it was the epoch's last step: then the epoch is validated first.

        Raises:
            Stopped: One of the ranks was asked to stop.
            TrainingError: The checkpoint could not be written.
        """
        self._stop_agreed, self._save_agreed = self._consensus.decide()
        if not ends_epoch:
            self._execute(step, epoch, {})

    def after_epoch(self, step: int, epoch: int, metrics: dict[str, float], *, is_last: bool) -> None:
        """Save, and stop, as agreed, at the end of a validated epoch.

        Args:
            step: Completed steps.
            epoch: Completed epochs.
            metrics: Metrics of the validation.
            is_last: Whether no other epoch follows.

        Raises:
            Stopped: One of the ranks was asked to stop.
            TrainingError: The checkpoint could not be written.
        """
        self._save_agreed |= is_last or epoch % self._spec.every_epochs == 0
        self._execute(step, epoch, metrics)

    def before_unsaved_step(self) -> None:
        """Submit this rank's vote on whether to stop after a step that no checkpoint will hold.

        Raises:
            TrainingError: The last checkpoint could not be written.
        """
        with self._explain_write_error(self._saved_step):
            self._writer.check()
        self._consensus.propose(stop=self._switch.is_requested, save=False)

    def after_unsaved_step(self) -> None:
        """Stop as agreed, with the last checkpoint as the state to resume from.

        Raises:
            Stopped: One of the ranks was asked to stop.
            TrainingError: The last checkpoint could not be written.
        """
        stop, _ = self._consensus.decide()
        if stop:
            self._stop(self._saved_step)

    def __enter__(self) -> CheckpointController:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the last checkpoint. If the training failed, it is still worth a moment."""
        if kind is None:
            with self._explain_write_error(self._saved_step):
                self._writer.finish()
        elif kind is not Stopped and self._writer.is_busy:
            try:
                self._writer.finish(_GRACE_S)
            except Exception as error:  # noqa: BLE001 - the training's own failure is the one to raise
                self._warn(f"the checkpoint of step {self._saved_step} could not be written either: {error}")

    def _is_due(self, step: int) -> bool:
        """Return whether rank zero wants a checkpoint after a step inside an epoch."""
        every, minutes = self._spec.every_steps, self._spec.every_minutes
        by_steps = every is not None and step // every > self._saved_step // every
        by_time = minutes is not None and time.monotonic() - self._saved_at_s >= 60 * minutes
        return (by_steps or by_time) and not self._writer.is_busy

    def _execute(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        stop, save = self._stop_agreed, self._save_agreed
        self._stop_agreed = self._save_agreed = False
        if stop or save:
            self._save(step, epoch, metrics)
        if stop:
            self._stop(step)

    def _stop(self, step: int) -> NoReturn:
        with self._explain_write_error(step):
            self._writer.finish()
        world.barrier("stopped")  # no rank reports that it has stopped before the state is safe
        raise Stopped(step)

    def _save(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        own = get_rank_state(
            self._trained.model,
            self._trained.partial_sums(),
            self._device,
            with_buffers=not self._gang.is_rank_zero,
        )
        ranks = world.all_gather_objects(own, "checkpoint.ranks")
        state = {**self._trained.state_dict(), "loader": self._loader.state_dict(), "ranks": ranks}
        meta = {"step": step, "epoch": epoch, "workers": self._gang.size, "metrics": metrics, "versions": _versions()}
        if self._gang.is_rank_zero:
            with self._explain_write_error(self._saved_step):
                self._writer.finish()
            copied = self._staging.copy(state)
            with self._explain_write_error(step):
                self._writer.start(partial(self._manager.put, copied, meta))
        self._saved_step, self._saved_at_s = step, time.monotonic()

    @contextmanager
    def _explain_write_error(self, step: int) -> Iterator[None]:
        """Turn an error of the disk into one that says what it means for the training."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # torch's own writer turns some errors of the disk into RuntimeError
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            remedy = remedy_of(error) or "correct the cause"
            raise TrainingError(
                f"{self._manager.display_path}: the checkpoint of step {step} cannot be written ({reason}); {remedy},"
                " then resume the job, which continues from the previous one"
            ) from error

    def _warn(self, text: str) -> None:
        self._on_event(Message(text, level="warning"))


def _describe_tensor(tensor: torch.Tensor | None) -> str:
    if not isinstance(tensor, torch.Tensor):
        return "missing" if tensor is None else type(tensor).__name__
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _versions() -> dict[str, str]:
    return {"farandole": version("farandole"), "torch": torch.__version__, "python": platform.python_version()}
