"""Policy of restarts."""

from __future__ import annotations

from farandole.errors import ModelError, TrainingError
from farandole.launch.failure import Failure, FailureKind
from farandole.launch.restarts import RestartPolicy


def _failure(step: int | None, kind: FailureKind = "killed", rank: int | None = 1, text: str = "broke") -> Failure:
    return Failure(kind, rank, TrainingError(text, detail="evidence"), step, True, ())


def test_every_failure_spends_one_restart() -> None:
    policy = RestartPolicy(2)
    assert policy.register(_failure(10)) is None
    assert policy.register(_failure(20)) is None
    last = _failure(30)
    assert policy.register(last) is last.error


def test_without_a_budget_the_first_failure_is_final() -> None:
    only = _failure(10)
    assert RestartPolicy(0).register(only) is only.error


def test_invalid_input_is_not_retried() -> None:
    wrong = Failure("raised", 0, ModelError("no such layer"), None, False, ())
    assert RestartPolicy(9).register(wrong) is wrong.error


def test_failure_that_repeats_at_the_same_step_is_final() -> None:
    policy = RestartPolicy(9)
    assert policy.register(_failure(48, text="train: worker 1 broke")) is None
    assert policy.register(_failure(48, text="train: worker 1 broke")) is None
    error = policy.register(_failure(48, text="train: worker 1 broke"))
    assert str(error) == (
        "train: worker 1 broke; it failed 3 times in the same way after step 48, so no further attempt is made"
    )
    assert error is not None
    assert error.detail == "evidence"


def test_error_that_a_worker_raises_twice_is_final() -> None:
    policy = RestartPolicy(9)
    assert policy.register(_failure(None, "raised")) is None
    error = policy.register(_failure(None, "raised"))
    assert str(error) == (
        "broke; it failed 2 times in the same way before its first step, so no further attempt is made"
    )


def test_same_message_of_another_worker_is_the_same_failure() -> None:
    policy = RestartPolicy(9)
    assert [policy.register(_failure(48, "raised", rank)) is None for rank in (0, 1)] == [True, False]


def test_other_steps_kinds_or_workers_are_different_failures() -> None:
    policy = RestartPolicy(9)
    failures = [
        _failure(48),
        _failure(48),
        _failure(49),
        _failure(48, "frozen"),
        _failure(48, "frozen", 0, "another"),
        _failure(48),
        _failure(48),
    ]
    assert [policy.register(failure) for failure in failures] == [None] * len(failures)


def test_repeated_kills_during_the_start_are_not_final() -> None:
    policy = RestartPolicy(5)
    assert [policy.register(_failure(None)) for _ in range(5)] == [None] * 5


def test_pauses_grow_up_to_a_limit_and_are_reset_by_progress() -> None:
    policy = RestartPolicy(100)
    longest = []
    for _ in range(8):
        policy.register(_failure(None))
        pauses = [policy.pause_s() for _ in range(200)]
        longest.append(round(max(pauses)))
        assert min(pauses) >= 0.5 * 0.99 * longest[-1] * 0.5
        assert len(set(pauses)) > 100, "jobs that fail together would start together"
    assert longest == [1, 2, 4, 8, 16, 30, 30, 30]
    policy.register(_failure(1000))
    assert policy.pause_s() <= 1.0


def test_pauses_do_not_grow_if_workers_are_killed_at_random_before_the_next_checkpoint() -> None:
    policy = RestartPolicy(100)
    for rank in (0, 1, 0, 1, 0, 1):
        killed = TrainingError(f"train: worker {rank} was killed")
        assert policy.register(Failure("killed", rank, killed, 120, False, ())) is None
        assert policy.pause_s() <= 1.0
