"""One rank of a job that runs the user's own training script: everything but the loop. Reads top to bottom.

The rank joins the gang, opens the MLflow run, and runs the script as `__main__` in its process. The script uses Horovod
(`horovod.torch`, already initialised) or torch.distributed, whose environment variables are set; it saves and resumes
with `farandole.Checkpoint`, and reports with `farandole.report`.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.errors import ModelError, TrainingError
from farandole.events import Message, StageEnded, StageStarted, format_count
from farandole.jobdir.checkpoints import checkpoint_location
from farandole.process.messages import Met, MlflowRunCreated, Result, send_message
from farandole.shards import Manifest, read_manifest, require_policies
from farandole.spec import Job
from farandole.tracking.store import resolve_store
from farandole.training import script_session, world
from farandole.training.script_session import ScriptSession
from farandole.training.stop import Stopped, StopSwitch
from farandole.training.world import World

if TYPE_CHECKING:
    from farandole.tracking.recorder import Recorder

_RUN_ID_TIMEOUT_S = 10.0
"""Seconds that the script waits for its MLflow run. Later, its own calls of `mlflow` create runs of their own."""


def run_script(job: Job, directory: Path, switch: StopSwitch) -> None:
    """Join the gang, run the script, and record its results.

    Args:
        job: The job.
        directory: The job's directory.
        switch: Stop request of this rank.

    Raises:
        TrainingError: The script ended with an exit code.
        Stopped: A rank was asked to stop; the state is saved.
    """
    with world.init() as gang:
        if gang.is_rank_zero:
            send_message(Met(gang.size))
        manifest = read_manifest(job.data.output) if job.has_data else None
        if manifest is not None:
            require_policies(job.data, manifest)
        os.environ.update(distributed_variables(gang))
        with _recorder(job, directory, gang) as recorder:
            if recorder is not None and manifest is not None:
                recorder.log_dataset(manifest, job.data.output)
            identity = {"job": job.name, "dataset": manifest.digest if manifest else None}
            session = ScriptSession(
                gang, checkpoint_location(job, directory), identity, job.train.checkpoint.keep, switch, recorder
            )
            if gang.is_rank_zero:
                name = f"{job.train.script} on {format_count(gang.size, 'worker')}"
                send_message(StageStarted("train", f"running {name}"))
            with script_session.opened(session):
                _run(Path(job.folder or ".", str(job.train.script)), job.train.args)
            if gang.is_rank_zero:
                send_message(StageEnded("train", format_count(session.step, "step")))
                _send_result(job, session, recorder, manifest)


def distributed_variables(gang: World) -> dict[str, str]:
    """Return the variables from which `torch.distributed.init_process_group` learns the gang, the same port on all."""
    own: tuple[str, int] | None = None
    if gang.is_rank_zero:
        with socket.socket() as probe:
            probe.bind(("", 0))
            own = (_address_of_rank_zero(gang), probe.getsockname()[1])
    address, port = world.broadcast_object(own, "script.rendezvous")
    return {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "RANK": str(gang.rank),
        "WORLD_SIZE": str(gang.size),
        "LOCAL_RANK": str(gang.local_rank),
        "LOCAL_WORLD_SIZE": str(gang.local_size),
    }


def _address_of_rank_zero(gang: World) -> str:
    """Return the address at which ranks on other hosts reach this one: that of the route to Horovod's rendezvous."""
    if gang.size == gang.local_size:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # sends nothing
        probe.connect((os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"], 9))
        return str(probe.getsockname()[0])


@contextmanager
def _recorder(job: Job, directory: Path, gang: World) -> Iterator[Recorder | None]:
    """Open the MLflow run on rank zero, and make it the run of the script's own calls of `mlflow`."""
    if not gang.is_rank_zero:
        yield None
        return
    from farandole.tracking.recorder import record_run
    from farandole.tracking.system_metrics import record_system_metrics

    with ExitStack() as resources:
        opened = resources.enter_context(
            record_run(
                job.tracking,
                directory,
                send_message,
                lambda run_id: send_message(MlflowRunCreated(run_id)),
                job=job,
            )
        )
        if job.tracking.system_metrics:
            resources.enter_context(record_system_metrics(job.tracking, directory, opened))
        opened.log_params(job)
        opened.log_provenance(job.folder)
        opened.drain(_RUN_ID_TIMEOUT_S)
        if opened.run_id is not None:
            os.environ["MLFLOW_TRACKING_URI"] = resolve_store(job.tracking).uri
            os.environ["MLFLOW_RUN_ID"] = opened.run_id
        else:
            text = "MLflow does not answer yet: what the script logs by `mlflow` itself is not in the job's run"
            send_message(Message(text, level="warning"))
        try:
            yield opened
        except Stopped:
            opened.keep_open = True  # another attempt may continue the run
            raise


def _run(script: Path, arguments: tuple[str, ...]) -> None:
    """Run a script as `python SCRIPT ARGUMENT ...` would.

    Raises:
        ModelError: It does not exist on this host.
        TrainingError: It ended with an exit code.
    """
    if not script.is_file():
        raise ModelError(f"train.script: {script}: no such file on this host; put it into the job's folder")
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            text = f"train.script: {script.name} ended with exit code {ended.code}; see its log"
            raise TrainingError(text) from ended
    sys.stdout.flush()


def _send_result(job: Job, session: ScriptSession, recorder: Recorder | None, manifest: Manifest | None) -> None:
    """Send the result document: what the script reported last."""
    dataset = None
    if manifest is not None:
        dataset = {"path": job.data.output, "digest": manifest.digest, "rows": manifest.row_counts, "reused": True}
    training: dict[str, Any] = {
        "mlflow_run_id": recorder.run_id if recorder is not None else None,
        "workers": session.gang.size,
        "steps": session.step,
        "rows_per_s": 0.0,
        "weights_digest": "",
        "metrics": {"script": session.metrics},
        "time_split": {},
        "time_by_rank": [],
        "straggler": None,
    }
    send_message(Result(dataset, training, {"uri": ""}))
