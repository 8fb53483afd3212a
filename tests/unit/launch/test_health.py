"""Who is frozen, and who is stuck: judged from signs of life and a clock that the test winds."""

from __future__ import annotations

from dataclasses import dataclass, field

from farandole.launch.attempt import Attempt
from farandole.launch.health import HealthMonitor, HealthProblem
from farandole.launch.hosts import Host
from farandole.spec import Resources

LIMITS = Resources(workers=2, heartbeat_timeout_s=10, meet_timeout_s=100, stall_timeout_s=300)


@dataclass
class Watched:
    """Two workers and a clock."""

    now_s: float = 1000.0
    attempt: Attempt = field(default_factory=lambda: Attempt(1, (Host("localhost", 2),)))

    def __post_init__(self) -> None:
        self.vigil = HealthMonitor(LIMITS, self.now_s)
        for rank in range(2):
            self.attempt.hear({"event": "started", "rank": rank, "pid": rank + 1}, self.now_s)

    def trains(self) -> None:
        """All have met and made a step."""
        self.attempt.met, self.attempt.first_step = True, 1

    def sign(self, rank: int, step: int | None = None, moves: int = 0) -> None:
        data = {"event": "alive", "rank": rank, "pid": rank + 1, "step": step, "epoch": 0, "moves": moves}
        self.attempt.hear(data, self.now_s)

    def after(self, seconds: float, *alive: int, step: int | None = None, moves: int = 0) -> HealthProblem | None:
        """Let time pass in which some ranks give signs; the first trouble that is found."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 1
            for rank in alive:
                self.sign(rank, step, moves)
            trouble = self.vigil.look(self.attempt, self.now_s)
            if trouble is not None:
                return trouble
        return None


def test_a_worker_without_a_sign_is_frozen() -> None:
    watched = Watched()
    watched.trains()
    assert watched.after(10, 0) is None
    assert watched.after(1, 0) == HealthProblem("frozen", 1, 11)


def test_before_the_first_step_a_worker_may_be_silent_for_longer() -> None:
    watched = Watched()
    assert watched.after(60, 0) is None
    assert watched.after(1, 0) == HealthProblem("frozen", 1, 61)


def test_of_two_silent_workers_the_one_that_fell_silent_first_is_named() -> None:
    watched = Watched()
    watched.trains()
    assert watched.after(2, 0) is None
    trouble = watched.after(20)
    assert trouble is not None
    assert (trouble.kind, trouble.rank) == ("frozen", 1)


def test_a_worker_that_has_ended_gives_no_signs_and_is_not_frozen() -> None:
    watched = Watched()
    watched.trains()
    watched.attempt.hear({"event": "exited", "rank": 1, "code": 0, "time_s": 0.0}, watched.now_s)
    assert watched.after(400, 0) is None


def test_workers_that_do_not_meet_are_told() -> None:
    watched = Watched()
    assert watched.after(100, 0, 1) is None
    assert watched.after(1, 0, 1) == HealthProblem("unmet", None, 101)


def test_a_gang_that_makes_no_step_is_stuck_though_all_live() -> None:
    watched = Watched()
    watched.trains()
    assert watched.after(50, 0, 1, step=7, moves=7) is None
    trouble = watched.after(400, 0, 1, step=7, moves=7)
    assert trouble is not None
    assert trouble.kind == "stalled"
    assert trouble.after_s == 301


def test_evaluating_is_not_standing_still() -> None:
    watched = Watched()
    watched.trains()
    for moves in range(10):
        assert watched.after(200, 0, 1, step=7, moves=7 + moves) is None


def test_after_the_last_step_the_chief_may_take_its_time() -> None:
    watched = Watched()
    watched.trains()
    assert watched.after(50, 0, 1, step=7, moves=7) is None
    watched.attempt.hear({"event": "StageEnded", "stage": "train", "text": "7 steps"}, watched.now_s)
    assert watched.after(400, 0, 1, step=7, moves=7) is None


def test_before_the_first_step_nobody_is_stuck() -> None:
    watched = Watched()
    watched.attempt.met = True
    assert watched.after(400, 0, 1) is None


def test_who_was_asleep_itself_does_not_take_the_others_for_frozen() -> None:
    watched = Watched()
    watched.trains()
    assert watched.after(5, 0, 1) is None
    watched.now_s += 3600
    assert watched.vigil.look(watched.attempt, watched.now_s) is None
    assert watched.after(10, 0, 1) is None
    assert watched.after(20, 0) == HealthProblem("frozen", 1, 11)
