"""Transfer of the spools on this host, the records of a job that MLflow has not received."""

from __future__ import annotations

import shutil
import sys
import tarfile
from typing import Any

from farandole.jobdir.layout import job_directory
from farandole.launch.agent.messages import SpoolsFound, send
from farandole.tracking.run_link import pending_spools

ACKNOWLEDGED = b"acknowledged\n"


def send_spools(request: dict[str, Any]) -> dict[str, Any]:
    """Send the spools of a job as a tar file, after a message that names them, and delete them once acknowledged.

    Args:
        request: `job`: id of the job.
    """
    directory = job_directory(request["job"])
    spools = pending_spools(directory)
    send(SpoolsFound(str(directory), [spool.name for spool in spools]))
    if not spools:
        return {}
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for spool in spools:
            tar.add(spool, arcname=spool.name)
    sys.stdout.buffer.flush()
    if sys.stdin.buffer.readline() == ACKNOWLEDGED:
        for spool in spools:
            shutil.rmtree(spool)
    return {}
