"""Decisions that all ranks make together at each step: whether to stop, and whether to save a checkpoint."""

from __future__ import annotations

import torch

from farandole.training import world
from farandole.training.world import World


class Consensus:
    """One small all-reduce per step.

    It starts before the step's gradients and is read after them, so no rank waits for it: when the gradients have
    arrived, so has the decision.

    Args:
        gang: Position of this rank.
    """

    def __init__(self, gang: World) -> None:
        self._is_alone = gang.size == 1
        self._votes = torch.zeros(2)
        self._pending: world.Pending | None = None

    def propose(self, *, stop: bool, save: bool) -> None:
        """Submit this rank's vote. Every rank votes exactly once before every step."""
        assert self._pending is None, "two votes for one step"
        self._votes[0], self._votes[1] = float(stop), float(save)
        if not self._is_alone:
            self._pending = world.start_all_reduce(self._votes, "consensus")

    def decide(self) -> tuple[bool, bool]:
        """Return whether any rank wants to stop, and whether any wants to save; the same on all ranks."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        stop, save = self._votes.tolist()
        return stop > 0, save > 0
