"""Whether and when there is another attempt."""

from __future__ import annotations

from farandole.errors import ModelError, TrainingError
from farandole.launch.failure import Failure, FailureKind
from farandole.launch.restarts import RestartPolicy


def _cause(step: int | None, kind: FailureKind = "killed", rank: int | None = 1, text: str = "broke") -> Failure:
    return Failure(kind, rank, TrainingError(text, detail="evidence"), step, True, ())


def test_the_budget_is_spent_failure_by_failure() -> None:
    restarts = RestartPolicy(2)
    assert restarts.refuse(_cause(10)) is None
    assert restarts.refuse(_cause(20)) is None
    last = _cause(30)
    assert restarts.refuse(last) is last.error


def test_without_a_budget_the_first_failure_is_the_last() -> None:
    only = _cause(10)
    assert RestartPolicy(0).refuse(only) is only.error


def test_what_the_user_has_to_mend_is_not_tried_again() -> None:
    wrong = Failure("raised", 0, ModelError("no such layer"), None, False, ())
    assert RestartPolicy(9).refuse(wrong) is wrong.error


def test_a_failure_that_repeats_at_the_same_step_ends_with_the_diagnosis() -> None:
    restarts = RestartPolicy(9)
    assert restarts.refuse(_cause(48, text="train: worker 1 broke")) is None
    assert restarts.refuse(_cause(48, text="train: worker 1 broke")) is None
    error = restarts.refuse(_cause(48, text="train: worker 1 broke"))
    assert str(error) == (
        "train: worker 1 broke; it failed 3 times in the same way after step 48, so no further attempt is made"
    )
    assert error is not None
    assert error.detail == "evidence"


def test_the_same_words_of_another_worker_are_the_same_failure() -> None:
    restarts = RestartPolicy(9)
    assert [restarts.refuse(_cause(48, "raised", rank)) is None for rank in (0, 1, 2)] == [True, True, False]


def test_other_steps_kinds_or_workers_are_other_failures() -> None:
    restarts = RestartPolicy(9)
    causes = [
        _cause(48),
        _cause(48),
        _cause(49),
        _cause(48, "frozen"),
        _cause(48, "frozen", 0, "another"),
        _cause(48),
        _cause(48),
    ]
    assert [restarts.refuse(cause) for cause in causes] == [None] * len(causes)


def test_workers_that_are_killed_while_they_start_are_no_diagnosis() -> None:
    restarts = RestartPolicy(5)
    assert [restarts.refuse(_cause(None)) for _ in range(5)] == [None] * 5


def test_pauses_grow_up_to_a_limit_and_begin_anew_after_progress() -> None:
    restarts = RestartPolicy(100)
    longest = []
    for _ in range(8):
        restarts.refuse(_cause(None))
        pauses = [restarts.pause_s() for _ in range(200)]
        longest.append(round(max(pauses)))
        assert min(pauses) >= 0.5 * 0.99 * longest[-1] * 0.5
        assert len(set(pauses)) > 100, "jobs that fail together would start together"
    assert longest == [1, 2, 4, 8, 16, 30, 30, 30]
    restarts.refuse(_cause(1000))
    assert restarts.pause_s() <= 1.0


def test_who_is_killed_at_random_moments_before_the_next_checkpoint_waits_no_longer_each_time() -> None:
    restarts = RestartPolicy(100)
    for rank in (0, 1, 0, 1, 0, 1):
        killed = TrainingError(f"train: worker {rank} was killed")
        assert restarts.refuse(Failure("killed", rank, killed, 120, False, ())) is None
        assert restarts.pause_s() <= 1.0
