"""The Python API: what the commands do, as functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.planning import check_builder, check_trainable, check_transform, stale_dataset
from farandole.progress import Noted, Watcher, ignore
from farandole.spec import CsvSource, Job

if TYPE_CHECKING:  # pyspark and Horovod's launcher are imported when a stage starts
    from farandole.ingest.prepare import Prepared
    from farandole.launch import Trained
    from farandole.sweeping.sweep import Swept


@dataclass(frozen=True)
class Finished:
    """All that a job produced.

    Args:
        job: The job.
        dataset: The dataset.
        trained: The training and its model.
    """

    job: Job
    dataset: Prepared
    trained: Trained

    def to_dict(self) -> dict[str, Any]:
        """The result document."""
        return _document(self.job, self.trained, self.dataset.to_dict())


def source_files(path: str) -> tuple[Path, ...]:
    """The files that a source's `path` in a job file stands for; an archive is unpacked first.

    Args:
        path: A file, a directory, a glob, or `package://NAME/FILE`.

    Raises:
        DataError: There are none, or they cannot be read.
    """
    from farandole.ingest.files import find_files

    return find_files("files", CsvSource(path=path)).paths


def prepare(job: Job, watch: Watcher = ignore, *, force: bool = False) -> Prepared:
    """Make the job's dataset, unless it is there already; see `farandole.ingest.prepare.prepare`."""
    from farandole.ingest.prepare import prepare as prepare_dataset

    check_builder(job)
    check_transform(job)
    return prepare_dataset(job, watch, force=force)


def train(job: Job, watch: Watcher = ignore, *, register: bool = False, resume: bool = False) -> Trained:
    """Train on the job's dataset; see `farandole.launch.supervisor.train`."""
    from farandole.launch import train as train_model

    check_trainable(job)
    check_builder(job)
    if stale_dataset(job):
        text = f"{job.data.output}: was made of other sources, features or code; `farandole prepare` renews it"
        watch(Noted(text, level="warning"))
    return train_model(job, watch, register=register, resume=resume)


def run(job: Job, watch: Watcher = ignore, *, force: bool = False) -> Finished:
    """Prepare, train, evaluate, register."""
    check_trainable(job)
    dataset = prepare(job, watch, force=force)
    return Finished(job, dataset, train(job, watch, register=True))


def scale(job_id: str, workers: int) -> None:
    """Ask a running job to go on with another number of workers; see `farandole.launch.scaling.scale`."""
    from farandole.launch import scale as scale_job

    scale_job(job_id, workers)


def sweep(job: Job, watch: Watcher = ignore, *, resume: bool = False) -> Swept:
    """Prepare once, train with many values, write the best job file; see `farandole.sweeping.sweep.sweep`."""
    from farandole.sweeping.sweep import spec_of
    from farandole.sweeping.sweep import sweep as sweep_job

    spec_of(job)
    check_trainable(job)
    prepare(job, watch)
    return sweep_job(job, watch, resume=resume)


def train_document(job: Job, trained: Trained) -> dict[str, Any]:
    """The result document of a training on a dataset that lay ready."""
    return _document(job, trained, trained.dataset)


def _document(job: Job, trained: Trained, dataset: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": job.name,
        "id": trained.job_id,
        "directory": str(trained.directory),
        "dataset": dataset,
        "training": trained.training,
        "model": {"uri": trained.model_uri},
    }
