"""Health of a gang, judged from heartbeats and a clock that the test advances."""

from __future__ import annotations

from dataclasses import dataclass, field

from farandole.events import StageEnded
from farandole.launch.attempt import Attempt
from farandole.launch.health import HealthMonitor, HealthProblem
from farandole.launch.hosts import Host
from farandole.process.messages import Alive, Exited, Started
from farandole.spec import Resources

LIMITS = Resources(workers=2, heartbeat_timeout_s=10, meet_timeout_s=100, stall_timeout_s=300)


@dataclass
class Monitored:
    """Two workers and a clock."""

    now_s: float = 1000.0
    attempt: Attempt = field(default_factory=lambda: Attempt(1, (Host("localhost", 2),)))

    def __post_init__(self) -> None:
        self.monitor = HealthMonitor(LIMITS, self.now_s)
        for rank in range(2):
            self.attempt.apply(Started(rank, rank + 1), self.now_s)

    def start_training(self) -> None:
        """Let all workers connect and complete a step."""
        self.attempt.is_connected, self.attempt.first_step = True, 1

    def beat(self, rank: int, step: int | None = None, moves: int = 0) -> None:
        self.attempt.apply(Alive(rank, rank + 1, step, 0, moves), self.now_s)

    def advance(self, seconds: float, *alive: int, step: int | None = None, moves: int = 0) -> HealthProblem | None:
        """Advance the clock while some ranks send heartbeats, and return the first problem."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 1
            for rank in alive:
                self.beat(rank, step, moves)
            problem = self.monitor.check(self.attempt, self.now_s)
            if problem is not None:
                return problem
        return None


def test_worker_without_heartbeats_is_frozen() -> None:
    gang = Monitored()
    gang.start_training()
    assert gang.advance(10, 0) is None
    assert gang.advance(1, 0) == HealthProblem("frozen", 1, 11)


def test_worker_may_be_silent_for_longer_before_the_first_step() -> None:
    gang = Monitored()
    assert gang.advance(60, 0) is None
    assert gang.advance(1, 0) == HealthProblem("frozen", 1, 61)


def test_worker_that_fell_silent_first_is_reported() -> None:
    gang = Monitored()
    gang.start_training()
    assert gang.advance(2, 0) is None
    problem = gang.advance(20)
    assert problem is not None
    assert (problem.kind, problem.rank) == ("frozen", 1)


def test_worker_that_has_exited_is_not_frozen() -> None:
    gang = Monitored()
    gang.start_training()
    gang.attempt.apply(Exited(1, 0.0, code=0), gang.now_s)
    assert gang.advance(400, 0) is None


def test_workers_that_do_not_connect_are_reported() -> None:
    gang = Monitored()
    assert gang.advance(100, 0, 1) is None
    assert gang.advance(1, 0, 1) == HealthProblem("unmet", None, 101)


def test_gang_without_progress_is_stalled_although_all_workers_are_alive() -> None:
    gang = Monitored()
    gang.start_training()
    assert gang.advance(50, 0, 1, step=7, moves=7) is None
    problem = gang.advance(400, 0, 1, step=7, moves=7)
    assert problem is not None
    assert problem.kind == "stalled"
    assert problem.after_s == 301


def test_evaluation_is_progress() -> None:
    gang = Monitored()
    gang.start_training()
    for moves in range(10):
        assert gang.advance(200, 0, 1, step=7, moves=7 + moves) is None


def test_rank_zero_has_no_time_limit_after_the_last_step() -> None:
    gang = Monitored()
    gang.start_training()
    assert gang.advance(50, 0, 1, step=7, moves=7) is None
    gang.attempt.apply(StageEnded("train", "7 steps"), gang.now_s)
    assert gang.advance(400, 0, 1, step=7, moves=7) is None


def test_gang_is_not_stalled_before_the_first_step() -> None:
    gang = Monitored()
    gang.attempt.is_connected = True
    assert gang.advance(400, 0, 1) is None


def test_suspended_monitor_does_not_report_frozen_workers() -> None:
    gang = Monitored()
    gang.start_training()
    assert gang.advance(5, 0, 1) is None
    gang.now_s += 3600
    assert gang.monitor.check(gang.attempt, gang.now_s) is None
    assert gang.advance(10, 0, 1) is None
    assert gang.advance(20, 0) == HealthProblem("frozen", 1, 11)
