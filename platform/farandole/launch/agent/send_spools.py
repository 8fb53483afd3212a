"""Gives back what a job has recorded on this host and MLflow has not taken."""

from __future__ import annotations

import shutil
import sys
import tarfile
from typing import Any

from farandole.jobdir.layout import job_directory
from farandole.process.messages import send_message
from farandole.tracking.run_link import pending_spools

ACKNOWLEDGED = b"taken\n"


def send_spools(request: dict[str, Any]) -> dict[str, Any]:
    """Send the spools of a job as a tar file, behind a line that names them, and delete them when they have arrived.

    Args:
        request: `job`: the job's id.
    """
    directory = job_directory(request["job"])
    spools = pending_spools(directory)
    send_message({"event": "collecting", "directory": str(directory), "spools": [spool.name for spool in spools]})
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
