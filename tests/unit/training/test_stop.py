from __future__ import annotations

import pytest

from farandole.training.stop import Stopped, StopSwitch


def test_while_steps_are_made_asking_is_only_remembered() -> None:
    switch = StopSwitch()
    assert not switch.asked
    switch.ask()
    assert switch.asked
    with pytest.raises(Stopped) as caught:
        switch.all_steps_done(30)
    assert caught.value.step == 30


def test_after_the_last_step_asking_ends_what_is_being_done() -> None:
    switch = StopSwitch()
    switch.all_steps_done(30)
    with pytest.raises(Stopped, match="stopped after step 30"):
        switch.ask()


def test_it_does_not_pass_for_a_failure() -> None:
    assert not issubclass(Stopped, Exception)
