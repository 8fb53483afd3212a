"""Manager of the existing checkpoints: which one to resume from, and which ones to keep."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farandole.training.checkpoint.backends import CheckpointBackend
from farandole.training.checkpoint.format import DamagedCheckpointError

_MAX_DIFFERENCES = 5
_MAX_VALUE_LENGTH = 60
_MISSING = object()


@dataclass(frozen=True)
class BestMetric:
    """Metric by which checkpoints are compared.

    Args:
        metric: Name of a validation metric.
        is_lower_better: Whether the lowest value is the best.
    """

    metric: str
    is_lower_better: bool


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory.

    Args:
        name: Its name.
        meta: Its metadata: `step`, `epoch` (completed epochs), `workers`, `versions`, `metrics` and so on.
        state: Its state.
    """

    name: str
    meta: dict[str, Any]
    state: dict[str, Any]


class CheckpointManager:
    """The checkpoints of one training, in a backend that may hold those of other trainings.

    Args:
        backend: Where checkpoints are stored.
        identity: What they belong to: nested mappings of plain values.
        keep: Number of newest checkpoints to keep.
        keep_best: Number of best checkpoints to keep besides.
        best: Metric that defines the best; None if there is none.
    """

    def __init__(
        self,
        backend: CheckpointBackend,
        identity: Any,
        *,
        keep: int,
        keep_best: int = 0,
        best: BestMetric | None = None,
    ) -> None:
        self._backend, self._identity = backend, identity
        self._keep, self._keep_best, self._best = keep, keep_best, best
        self._own: dict[str, dict[str, Any]] | None = None

    @property
    def display_path(self) -> str:
        """Directory or URI for messages."""
        return self._backend.display_path("")

    def clean_up(self) -> None:
        """Remove incomplete checkpoints of a writer that was killed."""
        self._backend.clean_up()

    def load_newest(
        self, warn: Callable[[str], None], find_mismatch: Callable[[dict[str, Any]], str | None]
    ) -> LoadedCheckpoint | None:
        """Load the newest valid checkpoint of this training, or return None if there is none.

        Args:
            warn: Receives a message about each newer checkpoint that is skipped.
            find_mismatch: Returns why a state does not fit the model, or None if it does.
        """
        newest: LoadedCheckpoint | None = None
        self._own = {}
        for name in self._backend.names():
            try:
                meta = self._backend.meta(name)
                differences = list_differences(meta["identity"], self._identity)
                if differences and newest is None:
                    raise DamagedCheckpointError(
                        f"belongs to another dataset, model or training setting ({summarize(differences)})"
                    )
                if differences:
                    continue
                if newest is None:
                    state = self._backend.state(name, meta)
                    reason = find_mismatch(state)
                    if reason is not None:
                        raise DamagedCheckpointError(f"belongs to another model ({reason})")
                    newest = LoadedCheckpoint(name, meta, state)
            except DamagedCheckpointError as problem:
                if newest is None:
                    warn(f"{self._backend.display_path(name)}: {problem}; skipped")
                continue
            self._own[name] = meta
        return newest

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write a checkpoint and remove those that are no longer needed; returns its name.

        Checkpoints that are damaged or belong to another training are neither counted nor removed.

        Raises:
            OSError: The disk is full, or rejects a file.
            StorageError: The object store does not answer.
            StorageAccessError: The object store rejects the request.
        """
        own = self._list_own()
        meta = {**meta, "identity": self._identity, "saved_at_s": time.time()}
        name = self._backend.put(state, meta)
        replaced = [old for old, known in own.items() if known["step"] == meta["step"]]
        others = {old: known for old, known in own.items() if old not in replaced}
        # The new one is the newest, whatever its step: steps go back where newer checkpoints are damaged.
        self._own = own = {name: meta, **others}
        for old in [*replaced, *expired_checkpoints(own, self._keep, self._keep_best, self._best)]:
            self._backend.remove(old)
            own.pop(old, None)
        return name

    def _list_own(self) -> dict[str, dict[str, Any]]:
        if self._own is None:
            self.load_newest(lambda text: None, lambda state: None)
        assert self._own is not None
        return self._own


def expired_checkpoints(
    own: dict[str, dict[str, Any]], keep: int, keep_best: int, best: BestMetric | None
) -> list[str]:
    """Return the checkpoints that are neither among the newest nor among the best.

    Args:
        own: Metadata by name, newest first.
        keep: Number of newest checkpoints to keep.
        keep_best: Number of best checkpoints to keep.
        best: Metric that defines the best. Checkpoints without the metric, or with NaN, are not among them.
    """
    kept = set(list(own)[:keep])
    if best is not None:
        values = {name: (meta.get("metrics") or {}).get(best.metric, math.nan) for name, meta in own.items()}
        measured = [name for name, value in values.items() if not math.isnan(value)]
        # Sorting is stable: among equal ones the newest wins.
        measured.sort(key=lambda name: values[name] if best.is_lower_better else -values[name])
        kept |= set(measured[:keep_best])
    return [name for name in own if name not in kept]


# Identities -------------------------------------------------------------------------------------------------------


def list_differences(before: Any, now: Any) -> list[str]:
    """List the fields in which two identities differ, as in `model.options.hidden was [128, 64], now [256]`.

    Args:
        before: Identity of the checkpoint: nested mappings of plain values.
        now: Identity of this training.
    """
    old, new = _flatten_fields(before), _flatten_fields(now)
    return [
        f"{name or 'it'} was {_shorten(old.get(name, _MISSING))}, now {_shorten(new.get(name, _MISSING))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _MISSING) != new.get(name, _MISSING)
    ]


def summarize(texts: list[str]) -> str:
    """Join the first few texts, and the number of those left out."""
    more = f"; and {len(texts) - _MAX_DIFFERENCES} more" if len(texts) > _MAX_DIFFERENCES else ""
    return "; ".join(texts[:_MAX_DIFFERENCES]) + more


def _flatten_fields(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, child in value.items():
        flat |= _flatten_fields(child, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _shorten(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else text[:_MAX_VALUE_LENGTH] + "…"
