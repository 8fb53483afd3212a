"""When a training saves its state and how it goes on from one: the trainer's side of checkpoints.

When a checkpoint is due is the chief's decision, and all ranks hear of it before the step after which it is made: each
gives its part. One that comes due in the middle of an epoch while the one before is still being written is made as soon
as that is done; those at an epoch's end, at a stop and at the end wait for it.
"""

from __future__ import annotations

import platform
import time
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import torch
from torch import nn

from farandole.errors import TrainingError
from farandole.events import EventHandler, Message
from farandole.loading import TrainingLoader
from farandole.spec import Checkpoint
from farandole.training import world
from farandole.training.checkpoint.flatten import flatten, unflatten
from farandole.training.checkpoint.manager import CheckpointManager
from farandole.training.checkpoint.rng import get_rng_states, set_rng_states
from farandole.training.checkpoint.staging import StagingBuffers
from farandole.training.checkpoint.writer import BackgroundWriter
from farandole.training.consensus import Consensus
from farandole.training.stop import Stopped, StopSwitch
from farandole.training.world import World

_LAST_CHANCE_S = 4.0
"""How long a checkpoint that is being written gets when the training fails. The launcher kills after 5 seconds."""


class Checkpointable(Protocol):
    """What has a state to save."""

    model: nn.Module

    def state(self) -> dict[str, Any]:
        """All that is the same on all ranks, by name; every rank is asked at the same step."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, with any number of ranks."""

    def partial_sums(self) -> list[float]:
        """Sums of this rank that have not been added up over the ranks yet."""

    def load_partial_sums(self, sums: list[float]) -> None:
        """Go on from such sums."""


class CheckpointController:
    """Saves the state of a training, and restores it.

    Args:
        spec: When to save.
        shelf: Where; only the chief's is used.
        gang: Which rank this is.
        device: Where the network computes.
        trained: What has the state.
        loader: Where the rows come from.
        switch: Whether this rank has been asked to stop.
        on_event: Is told what is passed over.

    Raises:
        ModelError: The model has a state that no checkpoint can hold; better known now than after an epoch.
    """

    def __init__(
        self,
        spec: Checkpoint,
        shelf: CheckpointManager,
        gang: World,
        device: torch.device,
        trained: Checkpointable,
        loader: TrainingLoader,
        switch: StopSwitch,
        on_event: EventHandler,
    ) -> None:
        self._spec, self._shelf, self._gang, self._device = spec, shelf, gang, device
        self._trained, self._loader, self._switch, self._watch = trained, loader, switch, on_event
        flatten(trained.model.state_dict())
        self._agreement = Consensus(gang)
        self._writer = BackgroundWriter(asynchronous=spec.asynchronous)
        self._host_copy = StagingBuffers()
        self._saved_step, self._saved_at_s = 0, time.monotonic()
        self._stop_agreed = self._save_agreed = False

    # Going on ---------------------------------------------------------------------------------------------------

    def restore(self) -> tuple[int, int]:
        """Go on from the newest checkpoint, as the chief sees it; returns steps and epochs done.

        Raises:
            StorageRefused: The object store will not have this.
            StorageFailed: The object store does not answer.
        """
        meta, state = self._read_by_chief()
        if meta is None:
            return 0, 0
        ranks, loader = state.pop("ranks"), state.pop("loader")
        self._trained.load(state)
        self._loader.load_state_dict(loader)
        if len(ranks) == self._gang.size:
            ours = ranks[self._gang.rank]
            self._trained.load_partial_sums(ours["sums"])
            _load_buffers(self._trained.model, ours["buffers"])
            set_rng_states(ours["random"], self._device)
        elif self._gang.is_rank_zero:
            self._trained.load_partial_sums([sum(sums) for sums in zip(*(rank["sums"] for rank in ranks), strict=True)])
        self._saved_step = meta["step"]
        return meta["step"], meta["epoch"]

    def _read_by_chief(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """What the newest checkpoint says of itself, and its state, on every rank."""
        meta, tree = None, None
        tensors: list[torch.Tensor] = []
        if self._gang.is_rank_zero:
            self._shelf.tidy()
            found = self._shelf.newest(lambda text: self._watch(Message(text, level="warning")), self._misfit)
            if found is not None:
                meta = found.meta
                tree, tensors = flatten(found.state)
                self._tell_versions(found.meta)
        meta, tree, kinds = world.broadcast_object(
            (meta, tree, [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]), "checkpoint"
        )
        tensors = tensors or [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
        tensors = [world.broadcast_tensor(tensor, f"checkpoint.{number}") for number, tensor in enumerate(tensors)]
        return meta, unflatten(tree, tensors)

    def _misfit(self, state: dict[str, Any]) -> str | None:
        """The identity holds the builder's name, not its code, so weights of other shapes may come with it."""
        saved, ours = state["model"], self._trained.model.state_dict()
        for name in [*ours, *saved]:
            was, now = (_shape(weights.get(name)) for weights in (saved, ours))
            if was != now:
                return f"its {name} was {was}, now {now}; the builder's code has changed"
        return None

    def _tell_versions(self, meta: dict[str, Any]) -> None:
        changed = [
            f"{name} {meta['versions'].get(name)}, now {now}"
            for name, now in _versions().items()
            if meta["versions"].get(name) != now
        ]
        if changed:
            self._watch(
                Message(
                    f"the checkpoint was written with {', '.join(changed)}: the last bits may differ", level="warning"
                )
            )

    # Saving -----------------------------------------------------------------------------------------------------

    def before_step(self, step: int) -> None:
        """Say what this rank wants after a step: stop, or save.

        Args:
            step: The step that follows, from 1.

        Raises:
            TrainingFailed: The last checkpoint could not be written.
        """
        with self._told(self._saved_step):
            self._writer.check()
        self._agreement.ask(stop=self._switch.asked, save=self._gang.is_rank_zero and self._due(step))

    def after_step(self, step: int, epoch: int, *, ends_epoch: bool) -> None:
        """Save, and stop, where it was agreed.

        Args:
            step: Steps done.
            epoch: Epochs done.
            ends_epoch: Whether it was the epoch's last step: then all that belongs to its end is done first.

        Raises:
            Stopped: One of the ranks was asked to stop.
            TrainingFailed: The checkpoint could not be written.
        """
        self._stop_agreed, self._save_agreed = self._agreement.reached()
        if not ends_epoch:
            self._act(step, epoch, {})

    def after_epoch(self, step: int, epoch: int, metrics: dict[str, float], *, last: bool) -> None:
        """The same at an epoch's end, once it is validated.

        Args:
            step: Steps done.
            epoch: Epochs done.
            metrics: Those of the validation.
            last: Whether no other epoch follows.
        """
        self._save_agreed |= last or epoch % self._spec.every_epochs == 0
        self._act(step, epoch, metrics)

    def __enter__(self) -> CheckpointController:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the last checkpoint. Where the training failed, it is still worth a moment."""
        if kind is None:
            with self._told(self._saved_step):
                self._writer.finish()
        elif kind is not Stopped and self._writer.busy:
            try:
                self._writer.finish(_LAST_CHANCE_S)
            except Exception as error:  # noqa: BLE001 - the training's own failure is the one to be raised
                self._watch(Message(f"the checkpoint of step {self._saved_step} is lost too: {error}", level="warning"))

    def _due(self, step: int) -> bool:
        """Whether the chief wants a checkpoint after a step in the middle of an epoch."""
        every, minutes = self._spec.every_steps, self._spec.every_minutes
        by_steps = every is not None and step // every > self._saved_step // every
        by_time = minutes is not None and time.monotonic() - self._saved_at_s >= 60 * minutes
        return (by_steps or by_time) and not self._writer.busy

    def _act(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        stop, save = self._stop_agreed, self._save_agreed
        self._stop_agreed = self._save_agreed = False
        if stop or save:
            self._save(step, epoch, metrics)
        if stop:
            with self._told(step):
                self._writer.finish()
            world.barrier("stopped")  # nobody says that it has stopped before the state is safe
            raise Stopped(step)

    def _save(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        ours = {
            "sums": self._trained.partial_sums(),
            "buffers": {}
            if self._gang.is_rank_zero
            else {name: buffer.cpu() for name, buffer in self._trained.model.named_buffers()},
            "random": get_rng_states(self._device),
        }
        ranks = world.all_gather_objects(ours, "checkpoint.ranks")
        state = {**self._trained.state(), "loader": self._loader.state_dict(), "ranks": ranks}
        meta = {"step": step, "epoch": epoch, "workers": self._gang.size, "metrics": metrics, "versions": _versions()}
        if self._gang.is_rank_zero:
            with self._told(self._saved_step):
                self._writer.finish()
            copied = self._host_copy.take(state)
            with self._told(step):
                self._writer.start(partial(self._shelf.put, copied, meta))
        self._saved_step, self._saved_at_s = step, time.monotonic()

    def _told(self, step: int) -> _Told:
        return _Told(self._shelf, step)


class _Told:
    """Turns an error of the disk into one that says what it means for the training."""

    def __init__(self, shelf: CheckpointManager, step: int) -> None:
        self._shelf, self._step = shelf, step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if isinstance(error, OSError | RuntimeError):  # torch's own writer turns a full disk into a RuntimeError
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise TrainingError(
                f"{self._shelf.shown}: the checkpoint of step {self._step} cannot be written ({reason}); free some"
                " space or mend the permissions, then `farandole train --resume` goes on from the one before"
            ) from error


def _shape(tensor: torch.Tensor | None) -> str:
    if not isinstance(tensor, torch.Tensor):
        return "not there" if tensor is None else type(tensor).__name__
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _load_buffers(model: nn.Module, saved: dict[str, torch.Tensor]) -> None:
    """Give this rank its own buffers: in the middle of an epoch they follow the rows that it saw."""
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for name, value in saved.items():
            buffers[name].copy_(value)


def _versions() -> dict[str, str]:
    return {"farandole": version("farandole"), "torch": torch.__version__, "python": platform.python_version()}
