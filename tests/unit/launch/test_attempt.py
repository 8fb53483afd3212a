"""State of a gang, built from its messages."""

from __future__ import annotations

from farandole.events import Message, StageEnded
from farandole.launch.attempt import Attempt, is_success
from farandole.launch.hosts import Host
from farandole.process.messages import Alive, Exited, Failed, Met, MlflowRunCreated, Result, Started, Stopped


def _attempt() -> Attempt:
    return Attempt(1, (Host("a", 2), Host("b", 1)))


def test_ranks_are_assigned_to_hosts_in_order() -> None:
    attempt = _attempt()
    assert attempt.workers == 3
    assert [attempt.host_of(rank) for rank in range(4)] == ["a", "a", "b", None]


def test_heartbeats_give_step_and_epoch() -> None:
    attempt = _attempt()
    attempt.apply(Started(0, 17), 1.0)
    assert (attempt.step, attempt.epoch, attempt.first_step) == (None, None, None)
    attempt.apply(Alive(0, 17, None, 0, 3), 2.0)
    assert (attempt.step, attempt.first_step_s) == (None, None)
    attempt.apply(Alive(0, 17, 5, 1, 9), 3.0)
    attempt.apply(Alive(1, 18, 6, 2, 9), 4.0)
    assert (attempt.step, attempt.epoch) == (6, 2)
    assert (attempt.first_step, attempt.first_step_s) == (5, 3.0)
    assert attempt.heartbeats[0].at_s == 3.0


def test_failed_step_is_exact() -> None:
    attempt = _attempt()
    attempt.apply(Alive(0, 17, 5, 1, 9), 1.0)
    attempt.apply(Failed(0, 100.0, "TrainingError", "it broke", step=8), 2.0)
    assert (attempt.failed_steps, attempt.step, attempt.failed_s) == ([8], 8, 2.0)


def test_training_is_complete_when_rank_zero_succeeded_after_its_result() -> None:
    attempt = _attempt()
    attempt.apply(Started(0, 17), 1.0)
    attempt.apply(Result({}, {}, {}), 2.0)
    assert not attempt.is_complete
    attempt.apply(Exited(0, 100.0, code=0), 3.0)
    assert attempt.is_complete
    assert attempt.running_ranks == []


def test_failed_exit_is_a_failure_and_a_lost_host_is_noticed() -> None:
    attempt = _attempt()
    attempt.apply(Exited(1, 100.0, code=0), 1.0)
    assert not attempt.failed_s
    attempt.apply(Exited(2, 100.0, host="b", lost="it was silent"), 2.0)
    assert (attempt.failed_s, attempt.has_lost_host) == (2.0, True)
    assert not is_success(attempt.exits[2])


def test_other_messages_change_their_field() -> None:
    attempt = _attempt()
    for message in (Met(3), MlflowRunCreated("run"), Stopped(7), StageEnded("evaluate", ""), Message("hello")):
        attempt.apply(message, 1.0)
    assert (attempt.is_connected, attempt.mlflow_run_id, attempt.stopped_step) == (True, "run", 7)
    assert not attempt.is_trained
    attempt.apply(StageEnded("train", "7 steps"), 1.0)
    assert attempt.is_trained
