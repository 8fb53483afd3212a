"""Supervisor in the launcher's pod: waits for the dataset and for workers, trains, and reports the status."""

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
from farandole.backends.kubernetes.pod.entrypoint import event_printer, load_job, run_pod
from farandole.backends.kubernetes.pod.rank_logs import RankLogRelay
from farandole.backends.kubernetes.pod.status_reporter import StatusReporter
from farandole.backends.kubernetes.pod.worker import private_copy
from farandole.backends.kubernetes.pod.worker_pods import HostFile, WorkerPods
from farandole.backends.kubernetes.status import failure_reason, has_succeeded
from farandole.errors import FarandoleError, JobFailedError, PreparationError
from farandole.events import Event, Message
from farandole.jobdir.layout import RUN_LINK, TRACKING, attempt_logs, job_directory
from farandole.process.signals import Terminated
from farandole.spec import Hosts, Job, Ssh

_POLL_S = 1.0
_ALL_READY_S = 60.0
"""How long to wait for all workers when `resources.min_workers` are ready: pods of one set become ready together."""


@dataclass
class _Launch:
    """One run of the launcher."""

    cluster: Cluster
    job: Job
    workers: WorkerPods
    reporter: StatusReporter
    directory: Path

    def run(self) -> None:
        """Wait for the dataset and the workers, train, and report the end."""
        print_event = event_printer()

        def on_event(event: Event) -> None:
            self.reporter.on_event(event)
            print_event(event)

        # This import takes seconds; the preparation, which runs meanwhile, takes longer.
        threading.Thread(target=importlib.import_module, args=("farandole.launch.supervisor",), daemon=True).start()
        try:
            self._wait_for_dataset()
            self.workers.scale(-(-self.job.resources.workers // self.workers.slots))
            with HostFile(self.workers, Path.home() / HOSTS_FILE) as hosts, RankLogRelay(self.directory):
                self._wait_for_workers(hosts)
                from farandole import pipeline

                self.reporter.follow(self.directory)
                checked = pipeline.check(self.job, ["train"])
                # The preparation has just written the dataset, and its sources may be out of reach here.
                prepared = None
                if self.job.has_data:
                    prepared = pipeline.load_prepared(checked, on_event, warn_if_stale=False)
                trained = pipeline.train(checked, prepared, on_event, register=True, directory=self.directory)
            self.reporter.close()
            self.workers.free()
            self.reporter.report_result(trained.to_dict())
            made = trained.model_uri or str(self.job.train.script)
            print(f"{self.job.name}: {made}", flush=True)
            steps = trained.training.steps
            self.reporter.report(state="succeeded", reason=f"the training has completed: {made}", step=steps)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Report a failure or an interruption; any other error remains in the log and the Job's condition."""
        self.reporter.close()
        if isinstance(error, FarandoleError):
            self.workers.free()
            self.reporter.report(state="failed", reason=str(error))
        elif isinstance(error, Terminated):
            self.reporter.report(state="running", reason="the launcher received SIGTERM")

    def _wait_for_dataset(self) -> None:
        """Wait until the preparation is complete.

        Raises:
            PreparationError: It has failed.
        """
        name = os.environ["FARANDOLE_PREPARE_OBJECT"]
        self.reporter.report(state="running", stage="prepare", reason="the dataset is being prepared")
        print(f"prepare: waiting for {name}", flush=True)
        while True:
            found = self.cluster.get("Job", name)
            if found is None:
                raise PreparationError(f"{name}: the preparation's Job was deleted; submit the job again")
            succeeded = has_succeeded(found)
            if succeeded:
                break
            if succeeded is False:
                pods = self.cluster.find("Pod", selector(os.environ["FARANDOLE_JOB_ID"], PREPARE))
                raise PreparationError(f"the preparation failed: {failure_reason(found, pods)}")
            time.sleep(_POLL_S)
        self.reporter.report(stage="train", reason="the dataset is ready")

    def _wait_for_workers(self, hosts: HostFile) -> None:
        """Wait until all workers are ready, or enough of them are and no more become ready."""
        wanted = -(-self.job.resources.workers // self.workers.slots)
        minimum = -(-self.job.resources.effective_min_workers // self.workers.slots)
        self.reporter.report(state="queued", reason=f"waiting for {wanted} worker pods")
        print(f"train: waiting for {wanted} worker pods", flush=True)
        enough_since_s = None
        while hosts.count < wanted:
            if hosts.count >= minimum:
                enough_since_s = enough_since_s or time.monotonic()
                if time.monotonic() - enough_since_s > _ALL_READY_S:
                    text = f"{hosts.count} of {wanted} worker pods are ready; the training starts with them"
                    print(Message(text, level="warning"), flush=True)
                    break
            time.sleep(_POLL_S / 4)


def main() -> None:
    """Run the supervisor."""
    run_pod(_supervise)


def _supervise() -> None:
    cluster = connect(None, os.environ["FARANDOLE_NAMESPACE"])
    submission = int(os.environ["FARANDOLE_SUBMISSION"])
    with StatusReporter(cluster, os.environ["FARANDOLE_STATUS_OBJECT"], submission, _terminate_self) as reporter:
        before = reporter.before
        if before.submission == submission:  # an end is final, even if this pod is started again
            if before.state == "failed":
                raise JobFailedError(before.reason)
            if before.state == "succeeded":
                return
        job = load_job()
        job_id = os.environ["FARANDOLE_JOB_ID"]
        job = _with_hosts(job, _set_up_ssh(Path.home() / ".ssh"))
        directory = job_directory(job_id)
        _restore_directory(directory, before.attempt)
        native = os.environ.get("FARANDOLE_STYLE") == "native"
        stateful_set = os.environ["FARANDOLE_WORKERS_OBJECT"] if native else None
        workers = WorkerPods(cluster, job_id, stateful_set, job.backend.kubernetes.workers_per_pod)
        _Launch(cluster, job, workers, reporter, directory).run()


def _terminate_self() -> None:
    """Send SIGTERM to this process, which saves the state of the training: the job was cancelled."""
    os.kill(os.getpid(), signal.SIGTERM)


def _with_hosts(job: Job, ssh: Ssh) -> Job:
    """Return the job with the ready workers as its hosts, reached with the job's own keys."""
    spec = job.backend.kubernetes
    ssh = ssh.model_copy(update={"python": spec.python, "home": f"{spec.home}/.farandole"})
    resources = job.resources.model_copy(update={"hosts": Hosts(file=str(Path.home() / HOSTS_FILE))})
    return job.model_copy(update={"resources": resources, "backend": job.backend.model_copy(update={"hosts": ssh})})


def _set_up_ssh(folder: Path) -> Ssh:
    """Copy the keys with the modes that SSH requires; return the SSH settings that use them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = private_copy(Path(SSH_MOUNT) / "id_rsa", folder / "id_farandole")
    host_key = Path(SSH_MOUNT) / "host_key.pub"
    public = (host_key if host_key.exists() else Path(SSH_MOUNT) / "id_rsa.pub").read_text(encoding="utf-8").split()
    known, settings = folder / "known_hosts", folder / "farandole_config"
    known.write_text(f"* {public[0]} {public[1]}\n", encoding="utf-8")  # all workers of a job have the same host key
    settings.write_text("ServerAliveInterval 5\nServerAliveCountMax 3\nUpdateHostKeys no\n", encoding="utf-8")
    return Ssh(
        port=SSH_PORT,
        identity_file=str(key),
        config_file=str(settings),
        known_hosts="strict",
        known_hosts_file=str(known),
    )


def _restore_directory(directory: Path, attempts: int) -> None:
    """Restore the job's directory of an earlier launcher: the link to its MLflow run and the number of attempts."""
    (directory / TRACKING).mkdir(parents=True, exist_ok=True)
    link = Path(JOB_MOUNT) / RUN_LINK
    if link.exists():
        (directory / TRACKING / RUN_LINK).write_bytes(link.read_bytes())
    if os.environ.get("FARANDOLE_MLFLOW_RUN"):
        from farandole.tracking.run_link import write_run_id

        write_run_id(directory, os.environ["FARANDOLE_MLFLOW_RUN"])
    for number in range(1, attempts + 1):
        attempt_logs(directory, number).mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main()
