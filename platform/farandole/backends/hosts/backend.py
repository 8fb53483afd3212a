"""The backend `hosts`: jobs whose workers run on machines that SSH reaches.

This machine keeps the queue, prepares the dataset and supervises, as the backend `local` does; the workers of each
attempt run on those of `resources.hosts` that answer.
"""

from __future__ import annotations

from pathlib import Path

from farandole.backends.local.backend import LocalBackend
from farandole.errors import SpecError
from farandole.launch.code_archive import pack, unpack
from farandole.spec import Job
from farandole.spec.backend import BackendName
from farandole.storage import home
from farandole.tracking.provenance import save_git_state


class HostsBackend(LocalBackend):
    """Each job is a supervisor here and workers elsewhere."""

    name: BackendName = "hosts"

    def check(self, job: Job) -> list[str]:
        """What is wrong with the job, and with its hosts where too few of them are as they have to be."""
        from farandole.launch.ssh.preflight import check_hosts  # pyarrow takes its time

        try:
            report = check_hosts(job)
        except SpecError as error:
            return [str(error)]
        if report.is_job_ok and report.slots >= job.resources.effective_min_workers:
            return []  # an attempt starts without the hosts that are not, and the log says so
        return [str(check) for check in report.failed]

    def _new_directory(self, job: Job) -> Path:
        """The same, for the job with its folder as it is now: what is changed later is another submission's."""
        assert job.folder is not None
        package = pack(job.folder)
        folder = unpack(package.data, package.digest, home() / "code" / package.digest)
        directory = super()._new_directory(job.model_copy(update={"folder": str(folder)}))
        save_git_state(directory, job.folder)  # a copy is in no repository
        return directory
