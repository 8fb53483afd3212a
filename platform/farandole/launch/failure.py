"""Failure of an attempt: which worker failed first, why, and which workers only failed because of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from farandole.errors import ERRORS, FarandoleError, TrainingError
from farandole.jobdir.layout import worker_log
from farandole.launch.attempt import PEER_LOST, Attempt, is_success
from farandole.launch.health import HealthProblem
from farandole.process.messages import Exited
from farandole.process.signals import signal_name

FailureKind = Literal[
    "raised", "exited", "killed", "out_of_memory", "lost", "frozen", "stalled", "unmet", "stopped", "launcher"
]
_TAIL_LINES = 20


@dataclass(frozen=True)
class Failure:
    """Reason why an attempt failed.

    Args:
        kind: `raised`: a worker reported an error. `exited`, `killed`, `out_of_memory`: a worker's process ended.
            `lost`: its host does not answer any more. `frozen`, `stalled`, `unmet`: see `HealthProblem`. `stopped`:
            the workers were asked to stop by somebody else. `launcher`: Horovod's launcher ended without any of these.
        rank: The worker that failed first.
        error: The error to raise; its text is complete, its detail is the evidence.
        step: The last step that is known to be complete.
        is_step_exact: Whether the step is known exactly, and not to a second only.
        victims: Workers that ended because that one did.
    """

    kind: FailureKind
    rank: int | None
    error: FarandoleError
    step: int | None
    is_step_exact: bool
    victims: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as plain data."""
        return {
            "kind": self.kind,
            "rank": self.rank,
            "message": str(self.error),
            "step": self.step,
            "victims": list(self.victims),
        }


def diagnose(attempt: Attempt, logs: Path, problem: HealthProblem | None, launcher_code: int) -> Failure:
    """Return why an attempt failed.

    Args:
        attempt: The messages of the gang.
        logs: Directory of the workers' logs.
        problem: The problem that made the supervisor end the gang.
        launcher_code: Exit code of Horovod's launcher. It does not indicate which worker failed, and is only shown
            where there is nothing else.
    """
    if problem is not None:
        return _from_problem(attempt, logs, problem)
    reported = sorted(
        (report for report in attempt.failures if report.kind != PEER_LOST), key=lambda report: report.time_s
    )
    silent = _silent_exits(attempt)
    if reported and (not silent or reported[0].time_s <= silent[0].time_s):
        first = reported[0]
        error = ERRORS.get(first.kind, TrainingError)(first.message, detail=first.detail)
        return _failure(attempt, "raised", first.rank, error)
    if silent:
        return _from_exit(attempt, silent[0], logs)
    if attempt.stopped_step is not None:
        text = f"train: the workers were asked to stop by another process; step {attempt.stopped_step} is saved"
        return _failure(attempt, "stopped", None, TrainingError(text))
    tail = "\n".join(attempt.launcher_output[-_TAIL_LINES:])
    text = f"train: Horovod's launcher ended with exit code {launcher_code} and without a result; see {logs}"
    return _failure(attempt, "launcher", None, TrainingError(text, detail=tail))


def _silent_exits(attempt: Attempt) -> list[Exited]:
    """Return the exits that no worker explained, the first one first.

    An exit with code 0 counts only where other workers lost their peer after it: at the end of a training all workers
    exit like this.
    """
    reporting = {report.rank for report in attempt.failures}
    exits = sorted((end for end in attempt.exits.values() if end.rank not in reporting), key=lambda end: end.time_s)
    failed = [end for end in exits if not is_success(end)]
    peer_lost_s = [report.time_s for report in attempt.failures if report.kind == PEER_LOST]
    early = [
        end
        for end in exits
        if is_success(end) and attempt.result is None and peer_lost_s and end.time_s <= min(peer_lost_s)
    ]
    if not failed or (early and early[0].time_s < failed[0].time_s):
        return early[:1]
    return failed


def _from_exit(attempt: Attempt, end: Exited, logs: Path) -> Failure:
    log = worker_log(logs, end.rank)
    if end.lost is not None:
        text = (
            f"train: host {end.host} is lost, and worker {end.rank} with it: {end.lost}; check the host; the worker's"
            f" log is {log}"
        )
        return _failure(attempt, "lost", end.rank, TrainingError(text, detail=log_tail(log)))
    evidence = attempt.oom.evidence(end.rank) if end.signal == signal.SIGKILL else None
    if evidence is not None:
        text = (
            f"train: worker {end.rank} was killed by the kernel because memory ran out ({evidence}); use a smaller"
            f" batch or model, fewer workers, or more memory; its log is {log}"
        )
        return _failure(attempt, "out_of_memory", end.rank, TrainingError(text, detail=log_tail(log)))
    kind: FailureKind = "killed" if end.signal is not None else "exited"
    text = f"train: worker {end.rank} {_describe_exit(end)}; its log is {log}"
    return _failure(attempt, kind, end.rank, TrainingError(text, detail=log_tail(log)))


def _from_problem(attempt: Attempt, logs: Path, problem: HealthProblem) -> Failure:
    after = f"{problem.after_s:.0f} s"
    if problem.kind == "frozen":
        assert problem.rank is not None
        log = worker_log(logs, problem.rank)
        text = (
            f"train: worker {problem.rank} sent no heartbeat for {after} (resources.heartbeat_timeout_s) and was"
            f" killed: it was suspended, or it hangs; its log is {log}"
        )
        return _failure(attempt, "frozen", problem.rank, TrainingError(text, detail=log_tail(log)))
    if problem.kind == "stalled":
        text = (
            f"train: all workers are alive, but none of them completed a step for {after} (resources.stall_timeout_s);"
            f" the stack of each worker is at the end of its log in {logs}"
        )
        return _failure(attempt, "stalled", None, TrainingError(text, detail=_all_tails(attempt, logs)))
    started = ", ".join(map(str, sorted(attempt.heartbeats))) or "none"
    text = (
        f"train: the {attempt.workers} workers did not connect to each other within {after}"
        f" (resources.meet_timeout_s); started: {started}; see {logs}"
    )
    return _failure(attempt, "unmet", None, TrainingError(text, detail=_all_tails(attempt, logs)))


def _failure(attempt: Attempt, kind: FailureKind, rank: int | None, error: FarandoleError) -> Failure:
    victims = tuple(sorted({report.rank for report in attempt.failures if report.kind == PEER_LOST} - {rank}))
    return Failure(kind, rank, error, attempt.step, bool(attempt.failed_steps), victims)


def _describe_exit(end: Exited) -> str:
    if end.signal is None:
        early = " before the end of the training" if is_success(end) else ""
        return f"ended with exit code {end.code}{early}"
    hint = ""
    if end.signal == signal.SIGKILL:
        hint = " (the kernel does this when memory runs out: use a smaller batch, or fewer workers)"
    return f"was killed by signal {end.signal}, {signal_name(end.signal)}{hint}"


def _all_tails(attempt: Attempt, logs: Path) -> str:
    tails = [(rank, log_tail(worker_log(logs, rank))) for rank in sorted(attempt.heartbeats)]
    return "\n".join(f"worker {rank}:\n{tail}" for rank, tail in tails if tail)


def log_tail(log: Path) -> str | None:
    """Return the last lines of a log; None if there are none."""
    if not log.exists():
        return None
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]) or None
