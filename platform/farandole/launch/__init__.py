"""Starts gangs through Horovod's own launcher, and supervises them.

Names are imported when they are first used: Horovod's launcher is a module of this package too, and its process needs
neither Arrow nor the rest of the supervisor.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farandole.jobdir.scaling import scale
    from farandole.launch.result import TrainedModel, TrainingSummary
    from farandole.launch.supervisor import train

_HOMES = {
    "TrainedModel": "farandole.launch.result",
    "TrainingSummary": "farandole.launch.result",
    "scale": "farandole.jobdir.scaling",
    "train": "farandole.launch.supervisor",
}

__all__ = ["TrainedModel", "TrainingSummary", "scale", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'farandole.launch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
