"""Start and supervision of gangs: all workers of one attempt, started by Horovod's launcher.

`train` supervises a job's training from the first attempt to the last. Names are imported on first use: the process of
Horovod's launcher also imports this package, and needs neither Arrow nor the supervisor. The parts of a gang's life
and the entry points of its processes are modules side by side, hence 16 files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farandole.launch.result import DatasetSummary, TrainedModel, TrainingSummary
    from farandole.launch.supervisor import train

_MODULES = {
    "DatasetSummary": "farandole.launch.result",
    "TrainedModel": "farandole.launch.result",
    "TrainingSummary": "farandole.launch.result",
    "train": "farandole.launch.supervisor",
}

__all__ = ["DatasetSummary", "TrainedModel", "TrainingSummary", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'farandole.launch' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
