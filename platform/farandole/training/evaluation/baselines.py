"""Baselines of a model on the test split: the mean or the prior, and gradient boosting for tables.

Boosting runs in a process of its own beside the training. A failure of that process does not affect the training.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from farandole.jobdir.layout import BASELINE, boosting_log
from farandole.process.atomic import write_atomic
from farandole.shards import LABEL, Dataset, LabelColumn
from farandole.spec import Job
from farandole.storage import home
from farandole.training.evaluation.boosting import is_suitable
from farandole.training.losses import listed_class_counts

MEAN, PRIOR, BOOSTING = "mean", "prior", "hist_gradient_boosting"
"""Names of the baselines in result documents and MLflow."""
_THREADS = 4
_SAMPLE_ROWS = 100_000
_POLL_S = 0.05
_MAX_REASON = 200


class BoostingProcess:
    """The process of the boosting baseline.

    Args:
        process: The process; None if its result exists already.
        output: The file that it writes.
        log: The file with its errors and warnings.
    """

    def __init__(self, process: subprocess.Popen[bytes] | None, output: Path, log: Path) -> None:
        self._process, self._output, self._log = process, output, log
        self.problem: str | None = None
        """The reason why the outputs are missing, known once they were requested."""

    def outputs(self, timeout_s: float) -> torch.Tensor | None:
        """Return its outputs for the test rows, `[B, O]`; None if it failed, or does not end within `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while self._process is not None and self._process.poll() is None:
            if time.monotonic() > deadline_s:
                self.problem = f"boosting was not ready {timeout_s:.0f} s after the end of the training"
                return None
            time.sleep(_POLL_S)
        try:
            with np.load(self._output) as found:
                self.problem = None
                return torch.from_numpy(found["outputs"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            last = [line for line in self._errors().splitlines() if line.strip()][-1:] or [str(error)]
            self.problem = f"boosting failed: {last[0].strip()[:_MAX_REASON]}; see {self._log}"
            return None

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if not self._errors():
            self._log.unlink(missing_ok=True)

    def _errors(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


@contextmanager
def boosting_process(job: Job, dataset: Dataset, directory: Path) -> Iterator[BoostingProcess | None]:
    """Run the boosting baseline for the length of the block, where the job and the dataset allow it.

    Call it from the main thread: the kernel ends the process when the thread that started it ends.

    Args:
        job: The job.
        dataset: The dataset.
        directory: The job's directory, in which the result outlives an attempt. Unless the dataset is encrypted, it is
            also kept for other jobs on the same dataset.
    """
    rows = dataset.manifest.row_counts
    if (
        job.train.baseline != "auto"
        or not rows["test"]
        or not rows["train"]
        or not is_suitable(dataset.manifest.columns)
    ):
        yield None
        return
    output = directory / BASELINE
    kept = kept_outputs(dataset) if job.data.shard_key is None else None
    if kept is not None and not output.exists():
        _take(kept, output)
    log = boosting_log(directory)
    running = BoostingProcess(None if output.exists() else _start(job, output, kept, log), output, log)
    try:
        yield running
    finally:
        running.end()


def kept_outputs(dataset: Dataset) -> Path:
    """Return where the outputs for a dataset are kept for other jobs: they do not depend on the job."""
    return home() / "cache" / "baselines" / f"{dataset.manifest.digest}-{version('scikit-learn')}.npz"


def _take(kept: Path, output: Path) -> None:
    """Write what another job kept, if it is there and whole, to this job's directory."""
    try:
        content = kept.read_bytes()
        with np.load(io.BytesIO(content)) as found:
            is_whole = "outputs" in found
    except (OSError, ValueError, BadZipFile):
        return
    if is_whole:
        write_atomic(output, content)


def _start(job: Job, output: Path, kept: Path | None, log: Path) -> subprocess.Popen[bytes] | None:
    key = job.data.shard_key
    request = {
        "directory": job.data.output,
        "key": key.model_dump(mode="json") if key is not None else None,
        "output": str(output),
        "kept": str(kept) if kept is not None else None,
    }
    threads = str(min(_THREADS, len(os.sched_getaffinity(0))))
    # Threads that wait for each other must not spin: the training needs the cores.
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "farandole.training.evaluation.boosting"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # the worker's own output is read by the launcher
                stderr=errors,
                env=environment,
            )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(json.dumps(request).encode())
    except OSError:
        return None
    return process


def trivial_name(label: LabelColumn) -> str:
    """Return the name of the trivial baseline of a kind of label."""
    return MEAN if label.kind == "regression" else PRIOR


def trivial_outputs(dataset: Dataset, rows: int) -> torch.Tensor:
    """Return the outputs `[rows, O]` of a model that knows only the training labels: the same for each row.

    Logits of the frequencies of the classes, or the mean in the label's own units.
    """
    label = dataset.manifest.columns.target
    if label.kind == "regression":
        output = np.array([_label_mean(dataset, label)])
    else:
        counts = listed_class_counts(dataset)
        if counts is None:
            counts = np.bincount(sample_labels(dataset), minlength=len(label.classes)).tolist()
        logs = np.log(np.maximum(counts, 0.5) / max(1, sum(counts)))
        output = logs[1:] - logs[:1] if label.kind == "binary" else logs
    return torch.from_numpy(np.tile(output, (rows, 1)))


def _label_mean(dataset: Dataset, label: LabelColumn) -> float:
    """Return the mean of the training labels, from the statistics of the manifest if they have it."""
    known = dataset.manifest.statistics.get(label.column, {}).get("mean")
    return float(label.in_units(sample_labels(dataset)).mean() if known is None else known)


def sample_labels(dataset: Dataset) -> np.ndarray:
    """Return the labels of the first training rows, which are a sample: reading all of them means reading all rows."""
    reader, found, rows = dataset.split("train"), [], 0
    for number in range(len(reader.block_rows)):
        found.append(np.array(reader.block(number)[LABEL]))
        reader.release(number)
        rows += len(found[-1])
        if rows >= _SAMPLE_ROWS:
            break
    return np.concatenate(found)
