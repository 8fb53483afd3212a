"""The vote of a gang of one; checkpoint/test_resume.py has gangs in which one of two asks."""

from __future__ import annotations

import pytest

from farandole.training.consensus import Consensus
from farandole.training.world import World


@pytest.mark.parametrize("vote", [(False, False), (True, False), (False, True), (True, True)])
def test_what_one_wants_is_agreed(vote: tuple[bool, bool]) -> None:
    agreement = Consensus(World(0, 1, 0, 1))
    agreement.ask(stop=vote[0], save=vote[1])
    assert agreement.reached() == vote
    agreement.ask(stop=False, save=False)
    assert agreement.reached() == (False, False)
