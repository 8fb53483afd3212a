"""One attempt: starts all workers by Horovod's own launcher, hears them, and tells truthfully how it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from farandole.errors import ERRORS, FarandoleError, TrainingFailed
from farandole.progress import StageStarted, Watcher, counted, from_dict
from farandole.spec import Job
from farandole.training.messages import PARENT_VARIABLE, WORKERS_VARIABLE, received

_LINE = re.compile(r"^\[(?P<rank>\d+)\]<(?P<stream>stdout|stderr)>:(?P<text>.*)$", re.DOTALL)
_EXIT = re.compile(r"^Process (?P<rank>\d+) exit with status code (?P<code>-?\d+)\.")
_TERM_S = 10.0
"""Seconds that Horovod's launcher gets to end its workers before it is killed."""

_PASSED_OPENLY = re.compile(
    r"^(PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|LD_LIBRARY_PATH|PYTHONPATH|HOROVOD_\w+|NCCL_\w+)$"
)
"""Variables that Horovod's launcher may write on the workers' command lines; all others go by file."""


@dataclass
class Attempt:
    """What was heard from one gang.

    Args:
        number: From 1; names the logs.
        mlflow_run_id: The MLflow run, when the store has made it.
        met: Whether all workers have met.
        result: The chief's result document, once it is there.
        error: Why there is none: what the first worker that failed says, or how it ended.
    """

    number: int
    mlflow_run_id: str | None = None
    met: bool = False
    result: dict[str, Any] | None = None
    error: FarandoleError | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    exits: list[tuple[int, int]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def run_gang(job: Job, directory: Path, attempt: Attempt, *, register: bool, watch: Watcher) -> None:
    """Start the workers, and return when all have ended. What is heard of them is put into `attempt` at once.

    Args:
        job: The job.
        directory: Where the job keeps its spec, checkpoints and logs.
        attempt: A new attempt.
        register: Whether the chief adds a model version.
        watch: Is told what the chief says.
    """
    logs = directory / "logs" / f"attempt-{attempt.number}"
    logs.mkdir(parents=True, exist_ok=True)
    watch(StageStarted("train", f"starting {counted(job.resources.workers, 'worker')}"))
    with _environment_file(job, directory) as environment:
        command = _command(job, directory, environment, register)
        with _process(command, job) as process, _Logs(logs) as files:
            assert process.stdout is not None
            for line in process.stdout:
                _hear(line, attempt, files, watch)
                if attempt.met:  # every worker has read it; should this process be killed, it does not lie about
                    environment.unlink(missing_ok=True)
            code = process.wait()
    if code != 0 or attempt.result is None:
        attempt.error = _cause(attempt, code, logs)


def _command(job: Job, directory: Path, environment: Path, register: bool) -> list[str]:
    workers = str(job.resources.workers)
    launcher = [
        sys.executable,
        "-m",
        "farandole.launch.horovodrun",
        "--gloo",
        "-np",
        workers,
        "-H",
        f"localhost:{workers}",
    ]
    launcher += ["--network-interface", "lo"]
    worker = [sys.executable, "-m", "farandole.training.worker", "--job", str(directory / "job.json")]
    worker += ["--directory", str(directory), "--environment", str(environment)]
    worker += ["--register"] if register else []
    return [*launcher, *worker]


def _threads(job: Job) -> int:
    return job.resources.threads(len(os.sched_getaffinity(0)), job.resources.workers)


@contextmanager
def _environment_file(job: Job, directory: Path) -> Iterator[Path]:
    """This process's variables, in a file that only its user may read, and that goes when the attempt ends."""
    path = directory / "environment.json"
    variables = {name: value for name, value in os.environ.items() if not _PASSED_OPENLY.match(name)}
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({**variables, "OMP_NUM_THREADS": str(_threads(job))}, file)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _process(command: list[str], job: Job) -> Iterator[subprocess.Popen[str]]:
    """Horovod's launcher, ended with all its workers however the block ends."""
    variables = {name: value for name, value in os.environ.items() if _PASSED_OPENLY.match(name)}
    variables[WORKERS_VARIABLE] = str(job.resources.workers)
    variables[PARENT_VARIABLE] = str(os.getpid())
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=_TERM_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


class _Logs:
    """One file for each rank, and one for the launcher."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, IO[str]] = {}

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, name: str, text: str) -> None:
        if name not in self._files:
            self._files[name] = (self._directory / f"{name}.log").open("a", encoding="utf-8", buffering=1)
        self._files[name].write(text)


def _hear(line: str, attempt: Attempt, logs: _Logs, watch: Watcher) -> None:
    """Sort one line: an event of a worker, other output of a worker, or a word of the launcher."""
    match = _LINE.match(line)
    if match is None:
        logs.write("launcher", line)
        attempt.words.append(line.rstrip())
        exited = _EXIT.match(line)
        if exited:
            attempt.exits.append((int(exited["rank"]), int(exited["code"])))
        return
    output, data = received(match["text"]) if match["stream"] == "stdout" else (match["text"], None)
    if output:
        logs.write(f"rank-{match['rank']}", output if output.endswith("\n") else output + "\n")
    if data is None:
        return
    if data["event"] == "mlflow_run":
        attempt.mlflow_run_id = data["id"]
    elif data["event"] == "met":
        attempt.met = True
    elif data["event"] == "result":
        attempt.result = data
    elif data["event"] == "failed":
        logs.write(f"rank-{match['rank']}", f"{data['message']}\n{data.get('detail') or ''}\n")
        attempt.failures.append(data)
    else:
        watch(from_dict(data))


def _cause(attempt: Attempt, code: int, logs: Path) -> FarandoleError:
    """Why the attempt failed: what the first rank says that lost no peer, or else how it was ended."""
    told = sorted((said for said in attempt.failures if said["kind"] != "PeerLost"), key=lambda said: said["time_s"])
    if told:
        first = told[0]
        return ERRORS[first["kind"]](first["message"], detail=first.get("detail"))
    victims = {said["rank"] for said in attempt.failures}
    silent = [(rank, status) for rank, status in attempt.exits if status != 0 and rank not in victims]
    if not silent:
        tail = "\n".join(attempt.words[-20:])
        return TrainingFailed(f"train: Horovod's launcher ended with {code} and no result; see {logs}", detail=tail)
    rank, status = silent[0]
    log = logs / f"rank-{rank}.log"
    tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:]) if log.exists() else ""
    return TrainingFailed(f"train: worker {rank} {_ended(status)}; its log is {log}", detail=tail or None)


def _ended(status: int) -> str:
    number = status - 128 if status > 128 else -status
    if status > 128 or status < 0:
        name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
        hint = (
            " (the kernel does this when memory runs out: use a smaller batch, or fewer workers)" if number == 9 else ""
        )
        return f"was killed by signal {number}, {name}{hint}"
    return f"ended with exit code {status}"
