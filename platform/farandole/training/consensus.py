"""What all ranks decide together at each step: whether to stop, and whether to save a checkpoint."""

from __future__ import annotations

import torch

from farandole.training import world
from farandole.training.world import World


class Consensus:
    """One small sum over the ranks for each step. It is sent off before the step's gradients and read after them, so
    nobody waits for it: where the gradients have come together, so has this.

    Args:
        gang: Which rank this is.
    """

    def __init__(self, gang: World) -> None:
        self._alone = gang.size == 1
        self._votes = torch.zeros(2)
        self._pending: world.Pending | None = None

    def ask(self, *, stop: bool, save: bool) -> None:
        """Say what this rank wants. Every rank says something before every step."""
        assert self._pending is None, "asked twice for one step"
        self._votes[0], self._votes[1] = float(stop), float(save)
        if not self._alone:
            self._pending = world.start_all_reduce(self._votes, "agreement")

    def reached(self) -> tuple[bool, bool]:
        """Whether any rank wants to stop, and whether any wants to save; the same on all ranks."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        stop, save = self._votes.tolist()
        return stop > 0, save > 0
