"""What the API keeps of a job: its spec, its packed folder, its keys, and what its launcher tells."""

from __future__ import annotations

import base64
import json

from farandole.backends.kubernetes.manifests.names import CODE, MLFLOW_RUN, PRIORITY, STORE, SUBMITTED
from farandole.backends.kubernetes.manifests.pods import Object, metadata
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.jobdir.layout import RUN_LINK, SPEC

PACKAGE, RECORD = "package.tar.gz", RUN_LINK
"""Keys of a job's ConfigMap, beside the spec under the name of its file."""


def config_maps(submission: Submission) -> list[Object]:
    """The ConfigMap that all other objects of the job belong to, and the one that its launcher writes."""
    kept: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(submission, submission.id, STORE, annotations=_annotations(submission)),
        "data": {SPEC: submission.job.model_dump_json(indent=1)},
    }
    if submission.record:
        kept["data"][RECORD] = submission.record
    if submission.code.content is not None:
        kept["binaryData"] = {PACKAGE: base64.b64encode(submission.code.content).decode()}
    told: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(submission, submission.named("status"), "status"),
    }
    return [kept, told]


def ssh_secret(submission: Submission) -> Object:
    """The Secret with the job's SSH keys. What `plan` shows of it has none."""
    pairs = submission.keys
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata(submission, submission.named("ssh"), STORE),
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
    if submission.code.place is not None:
        code["place"] = submission.code.place
    found = {
        CODE: json.dumps(code),
        PRIORITY: str(submission.job.backend.priority),
        SUBMITTED: submission.submitted_at,
        MLFLOW_RUN: submission.mlflow_run_id or "",
    }
    return {name: value for name, value in found.items() if value}
