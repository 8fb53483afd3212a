"""Trainer in a gang of one, in the process of the test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from farandole.events import Event, Message
from farandole.process.messages import WORKERS_VARIABLE
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training import world
from farandole.training.model_builder import build_model
from farandole.training.result import TrainingResult
from farandole.training.trainer import Trainer


class Harness:
    """Creates trainers, and records their events and metrics."""

    def __init__(self, gang: world.World, directory: Path) -> None:
        self._gang, self.directory = gang, directory
        self.events: list[Event] = []
        self.result: TrainingResult | None = None
        self.logged: dict[str, list[tuple[int, float]]] = {}

    def trainer(self, job: Job) -> Trainer:
        dataset = Dataset(job.data.output)
        torch.manual_seed(job.train.seed)
        return Trainer(
            job=job,
            dataset=dataset,
            model=build_model(job, dataset.manifest.columns),
            gang=self._gang,
            device=torch.device("cpu"),
            directory=self.directory,
            identity="equal",
            on_event=self.events.append,
            log=self._log,
        )

    def fit(self, job: Job) -> Trainer:
        trainer = self.trainer(job)
        self.result = trainer.fit()
        return trainer

    def remove_checkpoints(self) -> None:
        """Make the next training start from the beginning."""
        shutil.rmtree(self.directory)

    def messages(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    def _log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.logged.setdefault(name, []).append((step, value))


@contextmanager
def open_harness(directory: Path) -> Iterator[Harness]:
    """Initialize a gang of one, whose trainers save their checkpoints in a directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORKERS_VARIABLE, "1")
        patch.delitem(sys.modules, "network", raising=False)  # each test has its own module of this name
        with world.init() as gang, one_thread():
            yield Harness(gang, directory / "checkpoints")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread: networks of tests are too small for more, and tests run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
