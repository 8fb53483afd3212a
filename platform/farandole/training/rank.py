"""What one rank does, from meeting the others to recording the results. Reads top to bottom."""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from farandole.errors import FarandoleError, UnavailableError
from farandole.events import Event, Message, StageEnded, StageStarted, format_count, ignore_event
from farandole.preprocess import Preprocessing
from farandole.process.messages import send_message
from farandole.shards import Dataset, require_policies
from farandole.spec import Job
from farandole.storage import Location, is_uri
from farandole.tracking.run_link import open_run_link, require_run_link
from farandole.tracking.store import resolve_store
from farandole.training import world
from farandole.training.checkpoint import weights_digest
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.model_builder import build_model
from farandole.training.stop import Stopped, StopSwitch
from farandole.training.timing import find_straggler
from farandole.training.trainer import Trainer
from farandole.training.world import World

if TYPE_CHECKING:
    from farandole.tracking.recorder import Recorder

_NOT_OF_IDENTITY = {
    "epochs",
    "checkpoint",
    "log_every_steps",
    "metrics",
    "accumulate_steps",
    "shard_optimizer",
    "horovod",
    "compile",
    "channels_last",
    "profile",
}
"""What a resumed training may change: its result stays the same but for rounding, or is told by the change."""


def run_rank(job: Job, directory: Path, register: bool, switch: StopSwitch) -> None:
    """Meet the other ranks, then train, evaluate, and record the results.

    Args:
        job: The job.
        directory: Where the job keeps its checkpoints, and what it records until MLflow has taken it.
        register: Whether to add a model version.
        switch: Whether this rank has been asked to stop.

    Raises:
        Stopped: A rank was asked to stop; the state is saved.
    """
    if os.environ.get("HOROVOD_RANK", "0") == "0":  # seconds of import that only one rank needs, beside other work
        threading.Thread(target=importlib.import_module, args=("farandole.tracking.recorder",), daemon=True).start()
    with world.init() as gang:
        if gang.is_rank_zero:
            send_message({"event": "met", "workers": gang.size})
        _work(job, gang, directory, register, switch)


def _work(job: Job, gang: World, directory: Path, register: bool, switch: StopSwitch) -> None:
    """Train, evaluate, and record the results."""
    dataset = Dataset(job.data.output, job.data.shard_key)
    require_policies(job.data, dataset.manifest)
    _use_threads(job, gang)
    device = _device(job, gang)
    torch.manual_seed(job.train.seed)
    model = build_model(job, dataset.manifest.columns)
    with ExitStack() as open_until_end:

        @functools.cache
        def recorder() -> Recorder:
            """Opened when there is something to record: importing MLflow and reaching its store takes as long as all
            that comes before the first step, and nobody has to wait for it until then."""
            from farandole.tracking.recorder import record_run
            from farandole.tracking.system_metrics import record_system_metrics  # under way since this process began

            opened = open_until_end.enter_context(record_run(job.tracking, directory, _tell, _tell_run))
            open_until_end.push(_stays_open_if_stopped(opened))
            if job.tracking.system_metrics:
                open_until_end.enter_context(record_system_metrics(job.tracking, directory, opened))
            opened.log_params(job)
            opened.log_dataset(dataset.manifest, job.data.output)
            opened.log_provenance(job.folder)
            return opened

        if gang.size > gang.local_size and job.tracking.system_metrics:
            _record_other_nodes(job, gang, directory, open_until_end)
        trainer = Trainer(
            job=job,
            dataset=dataset,
            model=model,
            gang=gang,
            device=device,
            directory=_checkpoints(job, directory),
            identity=_identity(job, dataset),
            on_event=_tell if gang.is_rank_zero else ignore_event,
            log=(lambda values, step: recorder().log_metrics(values, step))
            if gang.is_rank_zero
            else lambda values, step: None,
            switch=switch,
            profiles=directory / "profile",
        )
        _say(gang, StageStarted("train", f"training on {format_count(gang.size, 'worker')}"))
        trainer.fit()
        _say(gang, StageEnded("train", f"{trainer.steps_done} steps, {trainer.rows_per_s:,.0f} rows/s"))
        _say(gang, StageStarted("evaluate", "evaluating on the test split"))
        test = trainer.evaluate("test")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in (test.metrics if test else {}).items())
        _say(gang, StageEnded("evaluate", f"test {shown}" if test else "there is no test split"))
        if gang.is_rank_zero:
            _finish(job, dataset, trainer, recorder(), test, register)


def _record_other_nodes(job: Job, gang: World, directory: Path, open_until_end: ExitStack) -> None:
    """Let the first rank of each node but the chief's record how the node is used."""
    if gang.is_rank_zero:
        open_run_link(directory, resolve_store(job.tracking).shown)
    world.barrier("record")
    if gang.local_rank == 0 and not gang.is_rank_zero:
        require_run_link(directory)
        opened = ExitStack()

        def record() -> None:
            from farandole.tracking.system_metrics import record_system_metrics

            try:
                opened.enter_context(record_system_metrics(job.tracking, directory, None))
            except (FarandoleError, OSError) as error:  # a training is worth more than how its nodes are used
                text = f"rank {gang.rank} does not record how its node is used: {error}"
                _tell(Message(text, level="warning"))

        # Nobody waits for the import of MLflow: the steps of all nodes would.
        opening = threading.Thread(target=record, name="node-record", daemon=True)
        opening.start()
        open_until_end.callback(opened.close)
        open_until_end.callback(opening.join)


def _stays_open_if_stopped(recorder: Recorder) -> Callable[..., None]:
    """A training that was asked to stop may go on in another attempt, in the same MLflow run; the launcher knows."""

    def hear(kind: type[BaseException] | None, *_: object) -> None:
        recorder.keep_open = kind is Stopped

    return hear


def _finish(
    job: Job, dataset: Dataset, trainer: Trainer, recorder: Recorder, test: EvaluationResult | None, register: bool
) -> None:
    """What the chief does at the end: plots, the model, and the result document."""
    from farandole.tracking.model import save_model
    from farandole.training.evaluation import plots

    label = dataset.manifest.columns.target
    time_split = trainer.time_split.rounded()
    final = {f"time.{name}": value for name, value in time_split.items()}
    final["train.rows_per_s"] = trainer.rows_per_s
    if test is not None:
        final |= {f"test.{name}": value for name, value in test.metrics.items()}
        for name, figure in plots.plot_evaluation(test, label).items():
            recorder.log_figure(figure, name)
    recorder.log_metrics(final, trainer.steps_done)
    recorder.log_figure(plots.plot_training_curves(recorder.history, job.metrics[0]), "training_curves")
    if job.train.profile and trainer.profiles is not None:
        for path in sorted(trainer.profiles.iterdir()):
            recorder.log_file(f"profile/{path.name}", path.read_bytes())
    digest = weights_digest(trainer.model.state_dict())
    recorder.set_tags({"farandole.weights_digest": digest})
    _tell(StageStarted("register", "logging the model"))
    preprocessing = Preprocessing.from_dict(dataset.manifest.preprocessing)
    problem = recorder.log_model(
        lambda place: save_model(trainer.model, preprocessing, job, place),
        job.tracking.register_as if register else None,
    )
    if problem is not None:
        _tell(Message(f"the network cannot be exported, so its code is logged with it ({problem})", level="warning"))
    # A model that the store has not taken lies in the job's directory, where MLflow reads it as well.
    uri = recorder.drain(job.tracking.wait_s).model_uri or recorder.model_directory
    _tell(StageEnded("register", uri))
    training = {
        "mlflow_run_id": recorder.run_id,
        "workers": trainer.gang.size,
        "steps": trainer.steps_done,
        "rows_per_s": round(trainer.rows_per_s, 1),
        "weights_digest": digest,
        "metrics": {"test": test.metrics if test else {}, "validation": trainer.validation},
        "time_split": time_split,
        "time_by_rank": [split.rounded() for split in trainer.time_by_rank],
        "straggler": find_straggler(trainer.time_by_rank),
    }
    manifest = dataset.manifest
    described = {"path": job.data.output, "digest": manifest.digest, "rows": manifest.row_counts, "reused": True}
    send_message({"event": "result", "dataset": described, "training": training, "model": {"uri": uri}})


def _checkpoints(job: Job, directory: Path) -> Location:
    """Where the job's checkpoints lie. In a place that the user chose, each job has a folder of its own."""
    chosen = job.train.checkpoint.directory
    if chosen is None:
        return directory / "checkpoints"
    if not is_uri(chosen):
        return Path(chosen) / directory.name
    address, mark, options = chosen.partition("?")
    return f"{address.rstrip('/')}/{directory.name}{mark}{options}"


def _identity(job: Job, dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint belongs to: it may be resumed with other workers or more epochs, not with other data."""
    return {
        "dataset": dataset.manifest.digest,
        "model": job.network.model_dump(mode="json"),
        "train": job.train.model_dump(mode="json", exclude=_NOT_OF_IDENTITY),
    }


def _device(job: Job, gang: World) -> torch.device:
    if not job.resources.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available() or torch.cuda.device_count() <= gang.local_rank:
        raise UnavailableError(
            f"resources.gpus: worker {gang.rank} finds {torch.cuda.device_count()} usable GPUs on its host and needs"
            f" number {gang.local_rank + 1}; set resources.gpus to 0, or use hosts with enough GPUs"
        )
    torch.cuda.set_device(gang.local_rank)
    return torch.device("cuda", gang.local_rank)


def _use_threads(job: Job, gang: World) -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(job.resources.threads(cores, gang.local_size))


def _say(gang: World, event: Event) -> None:
    if gang.is_rank_zero:
        _tell(event)


def _tell(event: Event) -> None:
    send_message(event)


def _tell_run(run_id: str) -> None:
    send_message({"event": "mlflow_run", "id": run_id})
