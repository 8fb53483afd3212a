"""Creation of a job's objects: one holds the job, all others belong to it, and it belongs to the Job that runs."""

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
from farandole.backends.kubernetes.manifests.store import PACKAGE
from farandole.backends.kubernetes.manifests.submission import MAX_INLINE_BYTES
from farandole.backends.kubernetes.objects import JobObjects
from farandole.errors import SpecError
from farandole.jobdir.layout import RUN_LINK, TRACKING
from farandole.launch.code_archive import CodeArchive, pack
from farandole.spec import Job, parse_job
from farandole.storage import join_location, open_storage, parse_location
from farandole.tracking.run_link import read_run_id
from farandole.tracking.store import resolve_store

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

Object = dict[str, Any]
_OLD_API = (1, 31)
"""Earlier versions have no pod failure policy for Jobs, or a different one."""


def pack_job_folder(job: Job) -> CodeArchive:
    """Pack the job's folder."""
    return pack(job.folder or ".")


def preload_mlflow(job: Job) -> None:
    """Import MLflow in the background, which takes seconds, while the cluster is contacted."""
    if _opens_run(job):
        threading.Thread(target=importlib.import_module, args=("farandole.tracking.recorder",), daemon=True).start()


def new_submission(job: Job, namespace: str) -> Submission:
    """Return a submission with new keys, a new MLflow run and its packed folder.

    Raises:
        SpecError: The folder is too large for the API, and no other location is set.
        UnavailableError: The MLflow server rejects the credentials.
    """
    localized, job_id = localize(job).job, new_id(job)
    code = _code(job, pack_job_folder(job))
    run_id, run_link = _open_run(job, job_id)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Submission(job_id, localized, namespace, code, SshKeys.generate(), 1, run_id, run_link, now)


def load_submission(found: JobObjects, number: int) -> Submission:
    """Return another submission of a stored job."""
    data = found.store["data"]
    code = json.loads(found.annotations[CODE])
    content = (found.store.get("binaryData") or {}).get(PACKAGE)
    return Submission(
        id=found.id,
        job=parse_job(found.spec, origin=found.id),
        namespace=found.store["metadata"]["namespace"],
        code=CodePackage(
            code["digest"],
            base64.b64decode(content) if content is not None else None,
            code.get("place"),
            int(code["bytes"]),
        ),
        keys=SshKeys(),
        number=number,
        mlflow_run_id=found.annotations.get(MLFLOW_RUN) or None,
        run_link=data.get(RUN_LINK, ""),
        submitted_at=found.annotations.get(SUBMITTED, ""),
    )


def apply_all(cluster: Cluster, submission: Submission, *, keep_keys: bool = False) -> None:
    """Create or change all objects of a submission.

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
            root = each  # the last one, so that the process that it starts finds the others
            continue
        cluster.apply(with_owner(each, holder))
    assert root is not None, "a job without a Job"
    if submission.number > 1:  # the root of the previous submission now belongs to the job as well
        previous = root["metadata"]["name"].removesuffix(str(submission.number)) + str(submission.number - 1)
        cluster.patch(root["kind"], previous, {"metadata": {"ownerReferences": [holder]}})
    first["metadata"]["ownerReferences"] = [_reference(cluster.apply(root))]
    cluster.apply(first)


def is_root(each: Object, submission: Submission) -> bool:
    """Return whether the deletion of this object is to remove the whole job."""
    component = LAUNCHER if submission.job.has_training else PREPARE
    return each["kind"] in ("Job", "MPIJob") and each["metadata"]["labels"][COMPONENT] == component


def with_owner(each: Object, owner: Object) -> Object:
    """Return a copy of an object that is deleted with its owner."""
    return {**each, "metadata": {**each["metadata"], "ownerReferences": [owner]}}


def adapt_to_version(each: Object, version: tuple[int, int]) -> Object:
    """Return the object without the fields that an old API server would reject."""
    if each["kind"] == "Job" and version < _OLD_API:
        return {**each, "spec": {name: value for name, value in each["spec"].items() if name != "podFailurePolicy"}}
    return each


def _reference(each: Object) -> Object:
    meta = each["metadata"]
    return {"apiVersion": each["apiVersion"], "kind": each["kind"], "name": meta["name"], "uid": meta["uid"]}


def _code(job: Job, package: CodeArchive) -> CodePackage:
    """Return the packed folder: with its content if the API accepts that, else with its location in the storage."""
    size = len(package.data)
    if size <= MAX_INLINE_BYTES:
        return CodePackage(package.digest, content=package.data, size_bytes=size)
    storage = job.backend.kubernetes.storage
    if storage is None:
        raise SpecError(
            f"folder: {job.folder}: packs into {size / 1024:,.0f} KiB, and the Kubernetes API accepts"
            f" {MAX_INLINE_BYTES >> 10}; set backend.kubernetes.storage, through which it is sent then, or list files"
            " that are not code in .gitignore"
        )
    # Not `.tar.gz`: SeaweedFS reports another size than it was sent for names that end so.
    folder, name = join_location(storage, "packages"), f"{package.digest}.package"
    target = open_storage(parse_location(folder))
    target.create()
    target.write(name, package.data)
    return CodePackage(package.digest, location=join_location(folder, name), size_bytes=size)


def _opens_run(job: Job) -> bool:
    return job.has_training and resolve_store(job.tracking).is_server


def _open_run(job: Job, job_id: str) -> tuple[str | None, str]:
    """Create the job's MLflow run before anything else; return its id and its serialized run link.

    Without a server that this machine reaches, or for a job that does not train, these are None and an empty text; the
    first attempt creates the run.
    """
    if not _opens_run(job):
        return None, ""
    from farandole.tracking.recorder import record_run

    with tempfile.TemporaryDirectory(prefix="farandole-submit-") as scratch:
        directory = Path(scratch) / job_id
        with record_run(job.tracking, directory, job=job) as recorder:
            recorder.keep_open = True
        return read_run_id(directory), (directory / TRACKING / RUN_LINK).read_text(encoding="utf-8")
