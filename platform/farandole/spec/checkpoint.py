"""The `train.checkpoint` part of a job file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farandole.spec.base import Spec


class Checkpoint(Spec):
    """How often the state is saved, so that a broken training can go on."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    """Save after every so many epochs. The last epoch is always saved."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many of the newest checkpoints are kept."""
