"""Objects that hold the job itself: its spec, its packed folder, its keys, and its launcher's status."""

from __future__ import annotations

import base64
import json

from farandole.backends.kubernetes.manifests.names import CODE, MLFLOW_RUN, PRIORITY, STORE, SUBMITTED
from farandole.backends.kubernetes.manifests.pods import Object, metadata
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.jobdir.layout import RUN_LINK, SPEC

PACKAGE = "package.tar.gz"
"""Key of the packed folder in a job's ConfigMap; the spec and the run link have the names of their files as keys."""


def config_maps(submission: Submission) -> list[Object]:
    """Return the ConfigMap that owns all other objects of the job, and the one that its launcher writes."""
    stored: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(submission, submission.id, STORE, annotations=_annotations(submission)),
        "data": {SPEC: submission.job.model_dump_json(indent=1)},
    }
    if submission.run_link:
        stored["data"][RUN_LINK] = submission.run_link
    if submission.code.content is not None:
        stored["binaryData"] = {PACKAGE: base64.b64encode(submission.code.content).decode()}
    reported: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(submission, submission.shared_name("status"), "status"),
    }
    return [stored, reported]


def ssh_secret(submission: Submission) -> Object:
    """Return the Secret with the job's SSH keys; `plan` shows it without keys."""
    pairs = submission.keys
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata(submission, submission.shared_name("ssh"), STORE),
        "stringData": {
            "id_rsa": pairs.user_private,
            "id_rsa.pub": pairs.user_public,
            "authorized_keys": pairs.user_public,
            "host_key": pairs.host_private,
            "host_key.pub": pairs.host_public,
        },
    }


def _annotations(submission: Submission) -> dict[str, str]:
    code = {"digest": submission.code.digest, "bytes": submission.code.size_bytes}
    if submission.code.location is not None:
        code["place"] = submission.code.location
    annotations = {
        CODE: json.dumps(code),
        PRIORITY: str(submission.job.backend.priority),
        SUBMITTED: submission.submitted_at,
        MLFLOW_RUN: submission.mlflow_run_id or "",
    }
    return {name: value for name, value in annotations.items() if value}
