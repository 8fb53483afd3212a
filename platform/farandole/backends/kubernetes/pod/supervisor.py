"""The launcher's work: waits for the dataset and for workers, supervises the training, tells how it goes."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from farandole.backends.kubernetes.cluster import Cluster, connect
from farandole.backends.kubernetes.localize import HOSTS_FILE
from farandole.backends.kubernetes.manifests.names import PREPARE, selector
from farandole.backends.kubernetes.manifests.pods import JOB_MOUNT, SSH_MOUNT, SSH_PORT
from farandole.backends.kubernetes.manifests.store import RECORD
from farandole.backends.kubernetes.pod.entrypoint import event_printer, load_job, run_pod
from farandole.backends.kubernetes.pod.rank_logs import RankLogRelay
from farandole.backends.kubernetes.pod.status_reporter import StatusReporter
from farandole.backends.kubernetes.pod.worker import private_copy
from farandole.backends.kubernetes.pod.worker_pods import HostFile, WorkerPods
from farandole.backends.kubernetes.status import failure_reason, has_succeeded
from farandole.errors import FarandoleError, JobFailedError, PreparationError
from farandole.events import Message
from farandole.jobdir.layout import RUN_LINK, TRACKING, attempt_logs, job_directory
from farandole.process.signals import Terminated
from farandole.spec import Hosts, Job, Ssh

_LOOK_S = 1.0
_ALL_READY_S = 60.0
"""How long all workers are waited for when `resources.min_workers` are ready: pods of one set come close together."""


@dataclass
class _Launch:
    """One launcher's life."""

    cluster: Cluster
    job: Job
    workers: WorkerPods
    report: StatusReporter
    directory: Path

    def run(self) -> None:
        """Wait, train, tell."""
        on_event = event_printer()
        # Seconds of import, beside a preparation that takes longer.
        threading.Thread(target=importlib.import_module, args=("farandole.launch.supervisor",), daemon=True).start()
        try:
            self._wait_for_dataset()
            self.workers.scale(-(-self.job.resources.workers // self.workers.slots))
            with HostFile(self.workers, Path.home() / HOSTS_FILE) as hosts, RankLogRelay(self.directory):
                self._wait_for_workers(hosts)
                from farandole import pipeline

                self.report.follow(self.directory)
                checked = pipeline.check(self.job, ["train"])
                prepared = pipeline.load_prepared(checked, on_event, warn_if_stale=False)  # the other pod made it now
                trained = pipeline.train(checked, prepared, on_event, register=True, directory=self.directory)
            self.report.close()
            self.workers.free()
            self.report.result(trained.to_dict())
            print(f"{self.job.name}: {trained.model_uri}", flush=True)
            steps = trained.training.steps
            self.report.tell(state="succeeded", reason=f"the training reached its end: {trained.model_uri}", step=steps)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Tell how it ended; whoever interrupted it knows more."""
        self.report.close()
        if isinstance(error, FarandoleError):
            self.workers.free()
            self.report.tell(state="failed", reason=str(error))
        elif isinstance(error, Terminated):
            self.report.tell(state="running", reason="the launcher was asked to end")

    def _wait_for_dataset(self) -> None:
        """Until the preparation is complete.

        Raises:
            PreparationFailed: It is not, and will not be.
        """
        name = os.environ["FARANDOLE_PREPARE_OBJECT"]
        self.report.tell(state="running", stage="prepare", reason="the dataset is being prepared")
        print(f"prepare: waiting for {name}", flush=True)
        while True:
            found = self.cluster.get("Job", name)
            if found is None:
                raise PreparationError(f"{name}: the preparation's Job is gone; submit the job again")
            ended = has_succeeded(found)
            if ended:
                break
            if ended is False:
                pods = self.cluster.find("Pod", selector(os.environ["FARANDOLE_JOB_ID"], PREPARE))
                raise PreparationError(f"the preparation failed: {failure_reason(found, pods)}")
            time.sleep(_LOOK_S)
        self.report.tell(stage="train", reason="the dataset lies ready")

    def _wait_for_workers(self, hosts: HostFile) -> None:
        """Until all are ready, or enough of them are and no more come."""
        wanted = -(-self.job.resources.workers // self.workers.slots)
        least = -(-self.job.resources.effective_min_workers // self.workers.slots)
        self.report.tell(state="queued", reason=f"waiting for {wanted} workers")
        print(f"train: waiting for {wanted} worker pods", flush=True)
        enough_s = None
        while hosts.count < wanted:
            if hosts.count >= least:
                enough_s = enough_s or time.monotonic()
                if time.monotonic() - enough_s > _ALL_READY_S:
                    event_printer()(
                        Message(f"{hosts.count} of {wanted} worker pods are ready; begins with them", "warning")
                    )
                    break
            time.sleep(_LOOK_S / 4)


def main() -> None:
    """Be the launcher."""
    run_pod(_supervise)


def _supervise() -> None:
    cluster = connect(None, os.environ["FARANDOLE_NAMESPACE"])
    submission = int(os.environ["FARANDOLE_SUBMISSION"])
    report = StatusReporter(cluster, os.environ["FARANDOLE_STATUS_OBJECT"], submission, _end_myself)
    with report:
        before = report.before
        if before.get("submission") == submission:  # an end is final, whoever starts this pod again
            if before.get("state") == "failed":
                raise JobFailedError(str(before["reason"]))
            if before.get("state") == "succeeded":
                return
        job = load_job()
        job_id = os.environ["FARANDOLE_JOB_ID"]
        job = _with_hosts(job, _set_up_ssh(Path.home() / ".ssh"))
        directory = job_directory(job_id)
        _go_on_in(directory, int(before.get("attempt") or 0))
        native = os.environ.get("FARANDOLE_STYLE") == "native"
        made_by = os.environ["FARANDOLE_WORKERS_OBJECT"] if native else None
        workers = WorkerPods(cluster, job_id, made_by, job.backend.kubernetes.workers_per_pod)
        _Launch(cluster, job, workers, report, directory).run()


def _end_myself() -> None:
    """Somebody cancelled the job: the same as SIGTERM, which saves the state of the training."""
    os.kill(os.getpid(), signal.SIGTERM)


def _with_hosts(job: Job, ssh: Ssh) -> Job:
    """The job on the workers that are ready, which this launcher reaches with the job's own keys."""
    spec = job.backend.kubernetes
    ssh = ssh.model_copy(update={"python": spec.python, "home": f"{spec.home}/.farandole"})
    resources = job.resources.model_copy(update={"hosts": Hosts(file=str(Path.home() / HOSTS_FILE))})
    return job.model_copy(update={"resources": resources, "backend": job.backend.model_copy(update={"hosts": ssh})})


def _set_up_ssh(folder: Path) -> Ssh:
    """The keys with the modes that SSH wants, and how workers are reached by them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = private_copy(Path(SSH_MOUNT) / "id_rsa", folder / "id_farandole")
    of_hosts = Path(SSH_MOUNT) / "host_key.pub"
    public = (of_hosts if of_hosts.exists() else Path(SSH_MOUNT) / "id_rsa.pub").read_text(encoding="utf-8").split()
    known, settings = folder / "known_hosts", folder / "farandole_config"
    known.write_text(f"* {public[0]} {public[1]}\n", encoding="utf-8")  # the workers of a job have one key
    settings.write_text("ServerAliveInterval 5\nServerAliveCountMax 3\nUpdateHostKeys no\n", encoding="utf-8")
    return Ssh(
        port=SSH_PORT,
        identity_file=str(key),
        config_file=str(settings),
        known_hosts="strict",
        known_hosts_file=str(known),
    )


def _go_on_in(directory: Path, attempts: int) -> None:
    """The job's directory, as an earlier launcher would have left it: which MLflow run, how many attempts."""
    (directory / TRACKING).mkdir(parents=True, exist_ok=True)
    record = Path(JOB_MOUNT) / RECORD
    if record.exists():
        (directory / TRACKING / RUN_LINK).write_bytes(record.read_bytes())
    if os.environ.get("FARANDOLE_MLFLOW_RUN"):
        from farandole.tracking.run_link import write_run_id

        write_run_id(directory, os.environ["FARANDOLE_MLFLOW_RUN"])
    for number in range(1, attempts + 1):
        attempt_logs(directory, number).mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main()
