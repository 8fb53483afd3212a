"""The backend `hosts`.

This machine keeps the queue, prepares the dataset and supervises, as the backend `local` does; the workers of each
attempt run on those of `resources.hosts` that answer.
"""

from __future__ import annotations

from pathlib import Path

from farandole.backends.local.backend import LocalBackend
from farandole.backends.protocol import AnyBackend
from farandole.errors import SpecError
from farandole.launch.code_archive import pack, unpack
from farandole.spec import Job
from farandole.storage import home
from farandole.tracking.provenance import save_git_state


class HostsBackend(LocalBackend):
    """Backend that runs a job's supervisor here and its workers on other machines."""

    name: AnyBackend = "hosts"

    def check(self, job: Job) -> list[str]:
        """Return the problems of the job, and of its hosts if fewer are usable than the job needs."""
        from farandole.launch.ssh.preflight import check_hosts  # pyarrow takes long to import

        try:
            report = check_hosts(job)
        except SpecError as error:
            return [str(error)]
        if report.is_job_ok and report.slots >= job.resources.effective_min_workers:
            return []  # an attempt starts without the unusable hosts, and the log says so
        return [str(check) for check in report.failed]

    def create_directory(self, job: Job) -> Path:
        """Create the job's directory for the job's folder as it is now: later changes do not affect this job."""
        assert job.folder is not None
        package = pack(job.folder)
        folder = unpack(package.data, package.digest, home() / "code" / package.digest)
        directory = super().create_directory(job.model_copy(update={"folder": str(folder)}))
        save_git_state(directory, job.folder)  # the copy is not in a repository
        return directory
