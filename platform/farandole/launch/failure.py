"""Why an attempt failed, told truthfully: who was first, and who went down with it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from farandole.errors import ERRORS, FarandoleError, TrainingError
from farandole.jobdir.layout import worker_log
from farandole.launch.attempt import Attempt, WorkerExit
from farandole.launch.health import HealthProblem

FailureKind = Literal[
    "raised", "exited", "killed", "out_of_memory", "lost", "frozen", "stalled", "unmet", "stopped", "launcher"
]
_TAIL_LINES = 20
_VICTIM = "PeerLost"


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed.

    Args:
        kind: `raised`: a worker says what went wrong. `exited`, `killed`, `out_of_memory`: a worker's process ended.
            `lost`: its host does not answer any more. `frozen`, `stalled`, `unmet`: see `Vigil`. `stopped`: somebody
            else asked the workers to stop. `launcher`: Horovod's launcher ended without any of these.
        rank: The worker that was first.
        error: The error to raise; its text says it all, its detail is the evidence.
        step: The last step that is known to have been made.
        exact: Whether the step is known exactly, and not to a second.
        victims: Workers that ended because that one did.
    """

    kind: FailureKind
    rank: int | None
    error: FarandoleError
    step: int | None
    exact: bool
    victims: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The cause as plain data."""
        return {
            "kind": self.kind,
            "rank": self.rank,
            "message": str(self.error),
            "step": self.step,
            "victims": list(self.victims),
        }


def diagnose(attempt: Attempt, logs: Path, trouble: HealthProblem | None, launcher_code: int) -> Failure:
    """Why an attempt failed.

    Args:
        attempt: What was heard.
        logs: Where the workers' output is kept.
        trouble: What the supervisor itself found, and ended the gang for.
        launcher_code: The exit code of Horovod's launcher. It says nothing of who failed, and is used for nothing
            but to be shown where there is nothing else.
    """
    if trouble is not None:
        return _trouble(attempt, logs, trouble)
    told = sorted(
        (said for said in attempt.failures if said["kind"] != _VICTIM), key=lambda said: float(said["time_s"])
    )
    silent = _silent(attempt)
    if told and (not silent or told[0]["time_s"] <= silent[0].time_s):
        first = told[0]
        error = ERRORS.get(first["kind"], TrainingError)(first["message"], detail=first.get("detail"))
        return _made(attempt, "raised", first["rank"], error)
    if silent:
        return _ended(attempt, silent[0], logs)
    if attempt.stopped_step is not None:
        text = f"train: somebody else asked the workers to stop; they saved their state at step {attempt.stopped_step}"
        return _made(attempt, "stopped", None, TrainingError(text))
    tail = "\n".join(attempt.words[-_TAIL_LINES:])
    text = f"train: Horovod's launcher ended with {launcher_code} and no result; see {logs}"
    return _made(attempt, "launcher", None, TrainingError(text, detail=tail))


def _silent(attempt: Attempt) -> list[WorkerExit]:
    """Workers that ended without a word about it, the first one first. One that left with code 0 while others still
    trained counts only where nobody ended otherwise: at a training's end all do."""
    spoke = {said["rank"] for said in attempt.failures}
    ended = sorted((end for end in attempt.exits.values() if end.rank not in spoke), key=lambda end: end.time_s)
    badly = [end for end in ended if not end.well]
    lost = [said["time_s"] for said in attempt.failures if said["kind"] == _VICTIM]
    left = [end for end in ended if end.well and attempt.result is None and lost and end.time_s <= min(lost)]
    first = sorted(left, key=lambda end: end.time_s)[:1]
    if not badly or (first and first[0].time_s < badly[0].time_s):
        return first
    return badly


def _ended(attempt: Attempt, end: WorkerExit, logs: Path) -> Failure:
    log = worker_log(logs, end.rank)
    if end.lost is not None:
        text = (
            f"train: host {end.host} is lost, and worker {end.rank} with it: {end.lost}; look after the host; the"
            f" worker's log is {log}"
        )
        return _made(attempt, "lost", end.rank, TrainingError(text, detail=log_tail(log)))
    evidence = attempt.oom.evidence(end.rank) if end.signal == signal.SIGKILL else None
    if evidence is not None:
        text = (
            f"train: worker {end.rank} was killed by the kernel because memory ran out ({evidence}); use a smaller"
            f" batch or model, fewer workers, or more memory; its log is {log}"
        )
        return _made(attempt, "out_of_memory", end.rank, TrainingError(text, detail=log_tail(log)))
    kind: FailureKind = "killed" if end.signal is not None else "exited"
    text = f"train: worker {end.rank} {_in_words(end)}; its log is {log}"
    return _made(attempt, kind, end.rank, TrainingError(text, detail=log_tail(log)))


def _trouble(attempt: Attempt, logs: Path, trouble: HealthProblem) -> Failure:
    after = f"{trouble.after_s:.0f} s"
    if trouble.kind == "frozen":
        assert trouble.rank is not None
        log = worker_log(logs, trouble.rank)
        text = (
            f"train: worker {trouble.rank} gave no sign of life for {after} (resources.heartbeat_timeout_s) and was"
            f" ended: it was stopped, or hangs; its log is {log}"
        )
        return _made(attempt, "frozen", trouble.rank, TrainingError(text, detail=log_tail(log)))
    if trouble.kind == "stalled":
        text = (
            f"train: all workers live and none made a step for {after} (resources.stall_timeout_s); where each of them"
            f" stood is at the end of its log in {logs}"
        )
        return _made(attempt, "stalled", None, TrainingError(text, detail=_all_tails(attempt, logs)))
    begun = ", ".join(map(str, sorted(attempt.signs))) or "none"
    text = (
        f"train: the {attempt.workers} workers did not meet within {after} (resources.meet_timeout_s); of these began:"
        f" {begun}; see {logs}"
    )
    return _made(attempt, "unmet", None, TrainingError(text, detail=_all_tails(attempt, logs)))


def _made(attempt: Attempt, kind: FailureKind, rank: int | None, error: FarandoleError) -> Failure:
    victims = tuple(sorted({said["rank"] for said in attempt.failures if said["kind"] == _VICTIM} - {rank}))
    return Failure(kind, rank, error, attempt.step, bool(attempt.failed_steps), victims)


def _in_words(end: WorkerExit) -> str:
    if end.signal is None:
        early = " before the training's end" if end.well else ""
        return f"ended with exit code {end.code}{early}"
    name = signal.Signals(end.signal).name if end.signal in set(signal.Signals) else "unknown"
    hint = ""
    if end.signal == signal.SIGKILL:
        hint = " (the kernel does this when memory runs out: use a smaller batch, or fewer workers)"
    return f"was killed by signal {end.signal}, {name}{hint}"


def _all_tails(attempt: Attempt, logs: Path) -> str:
    tails = [(rank, log_tail(worker_log(logs, rank))) for rank in sorted(attempt.signs)]
    return "\n".join(f"worker {rank}:\n{tail}" for rank, tail in tails if tail)


def log_tail(log: Path) -> str | None:
    """The last lines of a log; None: there are none."""
    if not log.exists():
        return None
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]) or None
