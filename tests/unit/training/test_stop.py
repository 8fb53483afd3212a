from __future__ import annotations

import pytest

from farandole.training.stop import Stopped, StopSwitch


def test_request_during_steps_takes_effect_after_the_last_step() -> None:
    switch = StopSwitch()
    assert not switch.is_requested
    switch.request()
    assert switch.is_requested
    with pytest.raises(Stopped) as caught:
        switch.finish_steps(30)
    assert caught.value.step == 30


def test_request_after_the_last_step_takes_effect_at_once() -> None:
    switch = StopSwitch()
    switch.finish_steps(30)
    with pytest.raises(Stopped, match="stopped after step 30"):
        switch.request()


def test_stopped_is_not_an_exception_that_handlers_catch() -> None:
    assert not issubclass(Stopped, Exception)
