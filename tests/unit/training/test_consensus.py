"""Votes in a gang of one. Gangs of two are in tests/integration/training/checkpoint."""

from __future__ import annotations

import pytest

from farandole.training.consensus import Consensus
from farandole.training.world import World


@pytest.mark.parametrize("vote", [(False, False), (True, False), (False, True), (True, True)])
def test_vote_of_one_rank_decides(vote: tuple[bool, bool]) -> None:
    consensus = Consensus(World(0, 1, 0, 1))
    consensus.propose(stop=vote[0], save=vote[1])
    assert consensus.decide() == vote
    consensus.propose(stop=False, save=False)
    assert consensus.decide() == (False, False)
