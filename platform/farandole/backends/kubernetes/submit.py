"""Makes the objects of a job: one holds it, all others belong to that one, and it belongs to the Job that runs."""

from __future__ import annotations

import base64
import datetime
import importlib
import json
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.backends.kubernetes.localize import localize
from farandole.backends.kubernetes.manifests import CodePackage, SshKeys, Submission, new_id, render
from farandole.backends.kubernetes.manifests.names import CODE, COMPONENT, LAUNCHER, MLFLOW_RUN, PREPARE, SUBMITTED
from farandole.backends.kubernetes.manifests.store import PACKAGE, RECORD
from farandole.backends.kubernetes.manifests.submission import MAX_INLINE_BYTES
from farandole.backends.kubernetes.status import JobObjects
from farandole.errors import SpecError
from farandole.jobdir.layout import RUN_LINK, SPEC, TRACKING
from farandole.launch.code_archive import CodeArchive, pack
from farandole.spec import Job, parse_job
from farandole.storage import open_storage, parse_location
from farandole.tracking.run_link import read_run_id
from farandole.tracking.store import resolve_store

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

Object = dict[str, Any]
_OLD_API = (1, 31)
"""Before it, Jobs have no policy for the ways in which pods fail, or one that is another one."""


def pack_job_folder(job: Job) -> CodeArchive:
    """The job's folder."""
    return pack(job.folder or ".")


def preload_mlflow(job: Job) -> None:
    """Import MLflow while the cluster is asked: seconds, of which nobody has to wait for."""
    if _opens_run(job):
        threading.Thread(target=importlib.import_module, args=("farandole.tracking.recorder",), daemon=True).start()


def new_submission(job: Job, namespace: str) -> Submission:
    """A submission with keys, an MLflow run and a place for its folder of its own.

    Raises:
        SpecError: The folder is too large for the API, and there is no other place for it.
        EnvironmentLacking: The MLflow server lets this user not in.
    """
    from farandole.backends.kubernetes.ssh_keys import new_ssh_keys

    moved, job_id = localize(job).job, new_id(job)
    code = _code(job, pack_job_folder(job))
    run_id, record = _open_run(job, job_id)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Submission(job_id, moved, namespace, code, new_ssh_keys(), 1, run_id, record, now)


def load_submission(found: JobObjects, attempt: int) -> Submission:
    """Another submission of a job that the API has."""
    data = found.store["data"]
    about = json.loads(found.annotations[CODE])
    content = (found.store.get("binaryData") or {}).get(PACKAGE)
    code = CodePackage(
        about["digest"],
        base64.b64decode(content) if content is not None else None,
        about.get("place"),
        int(about["bytes"]),
    )
    return Submission(
        id=found.id,
        job=parse_job(json.loads(data[SPEC]), origin=found.id),
        namespace=found.store["metadata"]["namespace"],
        code=code,
        keys=SshKeys(),
        attempt=attempt,
        mlflow_run_id=found.annotations.get(MLFLOW_RUN) or None,
        record=data.get(RECORD, ""),
        submitted_at=found.annotations.get(SUBMITTED, ""),
    )


def apply_all(cluster: Cluster, submission: Submission, *, keep_keys: bool = False) -> None:
    """Make or change all objects of a submission.

    Args:
        cluster: The cluster.
        submission: The submission.
        keep_keys: Whether the Secret with the keys stays as it is.
    """
    version = cluster.version()
    first, *others = [adapt_to_version(each, version) for each in render(submission)]
    holder = _reference(cluster.apply(first))
    root = None
    for each in others:
        if keep_keys and each["kind"] == "Secret":
            continue
        if is_root(each, submission):
            root = each  # last of all: what it starts finds the rest
            continue
        cluster.apply(with_owner(each, holder))
    assert root is not None, "a job without a Job"
    if submission.attempt > 1:  # what ran before is now one of those that belong to the job
        before = root["metadata"]["name"].removesuffix(str(submission.attempt)) + str(submission.attempt - 1)
        cluster.patch(root["kind"], before, {"metadata": {"ownerReferences": [holder]}})
    first["metadata"]["ownerReferences"] = [_reference(cluster.apply(root))]
    cluster.apply(first)


def is_root(each: Object, submission: Submission) -> bool:
    """Whether deleting this object is to remove the whole job."""
    part = LAUNCHER if submission.job.model is not None else PREPARE
    return each["kind"] in ("Job", "MPIJob") and each["metadata"]["labels"][COMPONENT] == part


def with_owner(each: Object, owner: Object) -> Object:
    """The same object, which goes when its owner goes."""
    return {**each, "metadata": {**each["metadata"], "ownerReferences": [owner]}}


def adapt_to_version(each: Object, version: tuple[int, int]) -> Object:
    """The same object without what an old API server would refuse."""
    if each["kind"] == "Job" and version < _OLD_API:
        return {**each, "spec": {name: value for name, value in each["spec"].items() if name != "podFailurePolicy"}}
    return each


def _reference(each: Object) -> Object:
    meta = each["metadata"]
    return {"apiVersion": each["apiVersion"], "kind": each["kind"], "name": meta["name"], "uid": meta["uid"]}


def _code(job: Job, package: CodeArchive) -> CodePackage:
    """Where the folder travels: in the API if it fits, else through the storage."""
    size = len(package.data)
    if size <= MAX_INLINE_BYTES:
        return CodePackage(package.digest, content=package.data, size_bytes=size)
    storage = job.backend.kubernetes.storage
    if storage is None:
        raise SpecError(
            f"folder: {job.folder}: packs into {size / 1024:,.0f} KiB, and the Kubernetes API takes"
            f" {MAX_INLINE_BYTES >> 10}; set backend.kubernetes.storage, through which it travels then, or name what is"
            " no code in .gitignore"
        )
    # Not `.tar.gz`: of names that end so SeaweedFS tells another size than it was sent.
    place, name = f"{storage.rstrip('/')}/packages", f"{package.digest}.package"
    target = open_storage(parse_location(place))
    target.create()
    target.write(name, package.data)
    return CodePackage(package.digest, place=f"{place}/{name}", size_bytes=size)


def _opens_run(job: Job) -> bool:
    return job.model is not None and resolve_store(job.tracking).is_server


def _open_run(job: Job, job_id: str) -> tuple[str | None, str]:
    """The job's MLflow run, made before anything else is, and what it is found by again.

    Where the server is reached from the cluster alone, the first attempt makes the run.
    """
    if not _opens_run(job):
        return None, ""
    from farandole.tracking.recorder import record_run

    with tempfile.TemporaryDirectory(prefix="farandole-submit-") as scratch:
        directory = Path(scratch) / job_id
        with record_run(job.tracking, directory) as recorder:
            recorder.keep_open = True
        return read_run_id(directory), (directory / TRACKING / RUN_LINK).read_text(encoding="utf-8")
