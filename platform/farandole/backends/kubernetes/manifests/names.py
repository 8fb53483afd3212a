"""Names, labels and annotations of a job's objects."""

from __future__ import annotations

import secrets
import time

from farandole.spec import Job

DOMAIN = "farandole.dev"
JOB, COMPONENT, NAME, SUBMISSION = f"{DOMAIN}/job", f"{DOMAIN}/component", f"{DOMAIN}/name", f"{DOMAIN}/attempt"
"""Labels of all objects: the job's id, the object's component, the job's name, the number of the submission."""
CODE, MLFLOW_RUN, SUBMITTED, PRIORITY = (
    f"{DOMAIN}/code",
    f"{DOMAIN}/mlflow-run",
    f"{DOMAIN}/submitted-at",
    f"{DOMAIN}/priority",
)
"""Annotations of a job's ConfigMap."""
CANCELLED = f"{DOMAIN}/cancelled-at"
"""Annotation of a job whose cancellation was requested."""
MANAGER = "farandole"
"""Farandole's name as a field manager."""
QUEUE, WORKLOAD_PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"

PREPARE, LAUNCHER, WORKER, EXECUTOR, STORE = "prepare", "launcher", "worker", "executor", "store"
"""Components of a job. `store`: the objects that hold the job itself."""
_NAME_CHARACTERS = 22


def new_id(job: Job) -> str:
    """Return an id for a submission: at most 44 characters, so that derived names stay within Kubernetes' 63."""
    name = job.name[:_NAME_CHARACTERS].rstrip("-")
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def labels(job_id: str, component: str, name: str, submission: int) -> dict[str, str]:
    """Return the labels of one object of a job."""
    return {
        "app.kubernetes.io/name": "farandole",
        "app.kubernetes.io/managed-by": MANAGER,
        JOB: job_id,
        NAME: name,
        COMPONENT: component,
        SUBMISSION: str(submission),
    }


def selector(job_id: str, component: str) -> str:
    """Return the label selector of one component of a job."""
    return f"{JOB}={job_id},{COMPONENT}={component}"
