"""Jobs for a cluster, created without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farandole.backends.kubernetes.localize import localize
from farandole.backends.kubernetes.manifests import CodePackage, SshKeys, Submission
from farandole.spec import Job, parse_job

JOB_ID = "small-20261125-101500-00ff"


def cluster_job(folder: Path, **changes: Any) -> Job:
    """Return a small job for Kubernetes; `kubernetes` and other parts of a job file replace the defaults."""
    kubernetes = {"storage": "s3://bucket/farandole", **changes.pop("kubernetes", {})}
    raw: dict[str, Any] = {
        "name": "small",
        "data": {
            "sources": {"things": {"path": "things.csv", "columns": {"width": "double", "label": "boolean"}}},
            "features": {"width": {"kind": "numeric"}},
            "label": {"column": "label", "kind": "binary"},
        },
        "model": {"builder": "farandole.models.mlp:build"},
        "train": {"global_batch_size": 64},
        "resources": {"workers": 2, "gpus": 1, "max_restarts": 2},
        "tracking": {"uri": "http://mlflow.farandole-system.svc:5000"},
        "backend": {"use": "kubernetes", "kubernetes": kubernetes},
        **changes,
    }
    return parse_job(raw, folder=folder)


def submission(job: Job, **changes: Any) -> Submission:
    """Return a submission of a job with fixed values in place of random ones."""
    fixed: dict[str, Any] = {
        "id": JOB_ID,
        "job": localize(job).job,
        "namespace": "farandole",
        "code": CodePackage("d" * 64, content=b"package", size_bytes=7),
        "keys": SshKeys("user private", "user public", "host private", "host public"),
        "mlflow_run_id": "0123456789abcdef",
        "submitted_at": "2026-11-25T10:15:00+00:00",
    }
    return Submission(**{**fixed, **changes})
