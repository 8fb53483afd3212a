"""What a job's objects are called, and the labels by which they are found."""

from __future__ import annotations

import secrets
import time

from farandole.spec import Job

DOMAIN = "farandole.dev"
JOB, COMPONENT, NAME, ATTEMPT = f"{DOMAIN}/job", f"{DOMAIN}/component", f"{DOMAIN}/name", f"{DOMAIN}/attempt"
"""Labels of all objects: the job's id, the part they play, the job's name, the number of the submission."""
CODE, MLFLOW_RUN, SUBMITTED, PRIORITY = (
    f"{DOMAIN}/code",
    f"{DOMAIN}/mlflow-run",
    f"{DOMAIN}/submitted-at",
    f"{DOMAIN}/priority",
)
"""Annotations of a job's ConfigMap."""
CANCELLED = f"{DOMAIN}/cancelled-at"
"""An annotation of a job that somebody cancelled."""
MANAGER = "farandole"
"""Our name as a field manager."""
QUEUE, WORKLOAD_PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"

PREPARE, LAUNCHER, WORKER, EXECUTOR, STORE = "prepare", "launcher", "worker", "executor", "store"
"""The parts that objects play. `store`: what the API keeps of the job."""
_NAME_CHARACTERS = 22


def new_id(job: Job) -> str:
    """An id for a submission: at most 44 characters, so that what is named after it stays within Kubernetes' 63."""
    name = job.name[:_NAME_CHARACTERS].rstrip("-")
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def labels(job_id: str, component: str, name: str, attempt: int) -> dict[str, str]:
    """The labels of one object of a job."""
    return {
        "app.kubernetes.io/name": "farandole",
        "app.kubernetes.io/managed-by": "farandole",
        JOB: job_id,
        NAME: name,
        COMPONENT: component,
        ATTEMPT: str(attempt),
    }


def selector(job_id: str, component: str) -> str:
    """The label selector of one part of a job."""
    return f"{JOB}={job_id},{COMPONENT}={component}"
