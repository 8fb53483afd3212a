"""Functions for training scripts of the user: `Checkpoint` and `report`.

Outside a job, when the script is run by `python train.py`, checkpoints go to the folder `checkpoints` of the working
directory and reports to standard output, so a script can be developed without a job.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from farandole.errors import ModelError
from farandole.events import Message, Progress, format_metric
from farandole.process.messages import send_message
from farandole.storage import Location
from farandole.training import heartbeat, world
from farandole.training.checkpoint import CheckpointManager, open_backend
from farandole.training.stop import Stopped, StopSwitch
from farandole.training.world import World

if TYPE_CHECKING:
    from farandole.tracking.recorder import Recorder

_TENSORS = (torch.Tensor, torch.nn.Parameter)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
_MAPPINGS, _SEQUENCES = (dict, OrderedDict, Counter), (list, tuple, set)
_KEPT_OUTSIDE_A_JOB = 2


@dataclass
class ScriptSession:
    """State of one rank while its script runs.

    Args:
        gang: Position of this rank.
        location: Directory or URI of the checkpoints.
        identity: What the checkpoints belong to: nested mappings of plain values.
        keep: Number of newest checkpoints to keep.
        switch: Stop request of this rank.
        recorder: Recorder of the MLflow run, on rank zero.
        step: The last reported step.
        metrics: The last reported value of each metric.
    """

    gang: World
    location: Location
    identity: Mapping[str, Any]
    keep: int
    switch: StopSwitch = field(default_factory=StopSwitch)
    recorder: Recorder | None = None
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    _manager: CheckpointManager | None = None

    @property
    def manager(self) -> CheckpointManager:
        """The existing checkpoints. Only rank zero's is used."""
        if self._manager is None:
            self._manager = CheckpointManager(open_backend(self.location), dict(self.identity), keep=self.keep)
        return self._manager


_session: ScriptSession | None = None


@contextmanager
def opened(session: ScriptSession) -> Iterator[None]:
    """Make a session the current one for the length of the block."""
    global _session
    _session = session
    try:
        yield
    finally:
        _session = None


def _current() -> ScriptSession:
    """Return the current session; outside a job, one for this process alone."""
    global _session
    if _session is None:
        _session = ScriptSession(World(0, 1, 0, 1), Path("checkpoints"), {}, _KEPT_OUTSIDE_A_JOB)
    return _session


@dataclass(frozen=True)
class Checkpoint:
    """The saved state of a training script.

    Args:
        state: What the script saved: tensors and plain values in dictionaries, lists and tuples.
        step: The step after which it was saved.
    """

    state: dict[str, Any]
    step: int

    @staticmethod
    def load() -> Checkpoint | None:
        """Return the newest whole checkpoint of this job, the same on all ranks; None at the first start.

        All ranks call it. A damaged checkpoint is skipped with a warning, and the one before it is used.
        """
        session = _current()
        found: Checkpoint | None = None
        if session.gang.is_rank_zero:
            loaded = session.manager.load_newest(lambda text: _warn(session, text), lambda state: None)
            found = Checkpoint(loaded.state, loaded.meta["step"]) if loaded is not None else None
        if session.gang.size > 1:
            found = world.broadcast_object(found, "script.checkpoint")
        if found is not None:
            session.step = found.step
        return found

    @staticmethod
    def save(state: Mapping[str, Any], *, step: int) -> None:
        """Save the state of the training, once all ranks have called it; rank zero's state is written.

        If the job was asked to stop (Ctrl-C, `farandole cancel`, another number of workers), the script ends here,
        with its state saved.

        Args:
            state: Tensors and plain values in dictionaries, lists and tuples: state dicts of networks and optimizers,
                counters.
            step: The number of completed steps.

        Raises:
            ModelError: The state contains an object of another type.
            OSError: The disk is full, or rejects the file.
        """
        session = _current()
        session.step = step
        is_last = Checkpoint.is_stop_requested()  # first: a step counts when all ranks have made it
        if session.gang.is_rank_zero:
            problem = _find_unsavable(dict(state), "state")
            if problem is not None:
                raise ModelError(f"farandole.Checkpoint.save: {problem}")
            session.manager.put(dict(state), {"step": step, "epoch": 0, "workers": session.gang.size})
        if is_last:
            raise Stopped(step)

    @staticmethod
    def is_stop_requested() -> bool:
        """Return whether any rank was asked to stop, the same on all ranks. All ranks call it.

        A script that saves rarely calls it after each step, and saves if it is true.
        """
        session = _current()
        requested = float(session.switch.is_requested)
        if session.gang.size > 1:
            (requested,) = world.all_reduce_sum([requested], "script.stop")
        return requested > 0


def report(step: int, *, total: int | None = None, epoch: int | None = None, epochs: int = 0, **metrics: float) -> None:
    """Report the progress of a training script. Every rank may call it; rank zero's metrics are shown and logged.

    Args:
        step: The number of completed steps.
        total: The number of steps in all, for the time left.
        epoch: The number of completed epochs, if one has just ended.
        epochs: The number of epochs in all.
        metrics: Values to log in the job's MLflow run, by name.
    """
    session = _current()
    session.step = step
    heartbeat.record_step(step, epoch or 0)
    values = {name: float(value) for name, value in metrics.items()}
    session.metrics |= values
    if not session.gang.is_rank_zero:
        return
    if session.recorder is None:
        shown = ", ".join(f"{name} {format_metric(value)}" for name, value in values.items())
        print(f"step {step}: {shown}", flush=True)
        return
    if values:
        session.recorder.log_metrics(values, step)
    if epoch is not None:
        of_all = f" of {epochs}" if epochs else ""
        shown = ", ".join(f"{name} {format_metric(value)}" for name, value in values.items())
        send_message(Message(f"epoch {epoch}{of_all}" + (f": {shown}" if shown else "")))
    if total is not None:
        send_message(Progress("train", step, total, "steps", "running the script"))


def _warn(session: ScriptSession, text: str) -> None:
    if session.recorder is not None:
        send_message(Message(text, level="warning"))
    else:
        print(f"warning: {text}", flush=True)


def _find_unsavable(value: Any, path: str) -> str | None:
    """Return where a state holds an object that cannot be read back without running code; None: nowhere.

    A subclass is another type: torch does not read back a `defaultdict`, a named tuple, or a number of NumPy.
    """
    if type(value) in _MAPPINGS:
        keys = (_find_unsavable(key, f"the key {key!r} of {path}") for key in value)
        children = (_find_unsavable(child, f"{path}[{key!r}]") for key, child in value.items())
        return next((found for found in (*keys, *children) if found), None)
    if type(value) in _SEQUENCES:
        children = (_find_unsavable(child, f"{path}[{number}]") for number, child in enumerate(value))
        return next((found for found in children if found), None)
    if type(value) in _TENSORS or (type(value) in _PLAIN and value != b""):  # torch does not read back empty bytes
        return None
    shown = "empty bytes" if type(value) is bytes else f"of type {type(value).__name__}"
    return (
        f"{path} is {shown}, which cannot be read back; save tensors and plain values: numbers, texts, dictionaries,"
        " lists (for an array: torch.from_numpy(array); for a number of NumPy: value.item(); for another mapping:"
        " dict(value))"
    )
