"""Checkpoints: directories that appear whole, under their step's number, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_STATE, _META = "state.pt", "meta.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on.

    Args:
        step: Steps done.
        epoch: Epochs done.
        state: Model and optimizer.
    """

    step: int
    epoch: int
    state: dict[str, Any]


def save(directory: Path, checkpoint: Checkpoint, identity: str, keep: int) -> Path:
    """Write a checkpoint beside its place, flush it, rename it, and remove all but the newest `keep`.

    Args:
        directory: Where checkpoints lie.
        checkpoint: What to save.
        identity: What the checkpoint belongs to: dataset, model and seed, as one hash.
        keep: How many to keep.
    """
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f"step-{checkpoint.step:09d}"
    temporary = directory / f".{place.name}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        with (temporary / _STATE).open("wb") as file:
            torch.save(checkpoint.state, file)
            file.flush()
            os.fsync(file.fileno())
        meta = {
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "identity": identity,
            "sha256": _sha256(temporary / _STATE),
        }
        (temporary / _META).write_text(json.dumps({**meta, "checksum": _checksum(meta)}), encoding="utf-8")
        if place.exists():
            shutil.rmtree(place)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    ours = [found for found in _newest_first(directory) if _identity(found) == identity]
    for old in ours[keep:]:
        shutil.rmtree(old)
    return place


def load_newest(directory: Path, identity: str, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint that belongs to this training; a damaged one is passed over with a warning."""
    for place in _newest_first(directory):
        try:
            meta = _read_meta(place)
            if meta["identity"] != identity:
                warn(f"{place}: belongs to another dataset, model or way of training; it is passed over")
                continue
            if meta["sha256"] != _sha256(place / _STATE):
                warn(f"{place}: does not match its digest; it is passed over")
                continue
            state = torch.load(place / _STATE, map_location="cpu", weights_only=True)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            warn(f"{place}: cannot be read ({error}); it is passed over")
            continue
        return Checkpoint(meta["step"], meta["epoch"], state)
    return None


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state dict, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_meta(place: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        OSError: There is nothing.
        ValueError: It does not match its own checksum.
    """
    meta = json.loads((place / _META).read_text(encoding="utf-8"))
    if not isinstance(meta, dict) or meta.pop("checksum", None) != _checksum(meta):
        raise ValueError(f"{_META} does not match its checksum")
    return meta


def _identity(place: Path) -> str | None:
    try:
        return str(_read_meta(place)["identity"])
    except (OSError, ValueError):
        return None


def _checksum(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*"), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
