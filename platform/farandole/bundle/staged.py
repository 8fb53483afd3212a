"""Copies of bundles in the directory of a job's checkpoints, which its workers reach wherever they run.

A training that resumes uses its copy, whatever became of the name by which the job file refers to the model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farandole.bundle.manifest import MANIFEST, digest_of, read_manifest
from farandole.bundle.opened import Bundle, open_bundle
from farandole.errors import BundleError
from farandole.storage import LocalStorage, Location, Storage, open_storage

_FOLDER = "models"
_DIGEST_CHARACTERS = 16


def stage_bundle(bundle: Bundle, checkpoints: Location) -> None:
    """Copy a bundle, unless its copy is there; the manifest, copied last, shows that a copy is complete.

    Args:
        bundle: The bundle.
        checkpoints: Directory or URI of the job's checkpoints.
    """
    if is_staged(bundle.digest, checkpoints):
        return
    storage, folder = open_storage(checkpoints), _folder(bundle.digest)
    storage.create()
    _, document = read_manifest(bundle.path)
    for name in (*document["files"], MANIFEST):
        _publish(storage, f"{folder}/{name}", (bundle.path / name).read_bytes())


def is_staged(digest: str, checkpoints: Location) -> bool:
    """Return whether the bundle of a digest was copied completely."""
    try:
        content = open_storage(checkpoints).read(f"{_folder(digest)}/{MANIFEST}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    return digest_of(content) == digest


def record_digest(field: str, model: str, digest: str, checkpoints: Location) -> None:
    """Record which bundle a name stood for when the training started first."""
    _publish(
        open_storage(checkpoints), f"{_FOLDER}/{field}.json", json.dumps({"model": model, "digest": digest}).encode()
    )


def recorded_digest(field: str, model: str, checkpoints: Location) -> str | None:
    """Return the digest that was recorded for a field and a name; None if there is none."""
    try:
        document = json.loads(open_storage(checkpoints).read(f"{_FOLDER}/{field}.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return str(document["digest"]) if document["model"] == model else None


@contextmanager
def staged_bundle(digest: str, checkpoints: Location, field: str) -> Iterator[Bundle]:
    """Open the copy of a bundle for the length of the block.

    Args:
        digest: The bundle's digest.
        checkpoints: Directory or URI of the job's checkpoints.
        field: Path of the field that names the model.

    Raises:
        BundleError: There is no copy, or it is damaged.
    """
    storage, folder = open_storage(checkpoints), _folder(digest)
    if not is_staged(digest, checkpoints):
        raise BundleError(
            f"{field}: {storage.display_path(folder)}: has no bundle {digest[:15]}; all workers need the directory of"
            " checkpoints: name one that their hosts share in train.checkpoint.directory, and start the job again"
        )
    if isinstance(storage, LocalStorage):
        yield open_bundle(storage.directory / folder)
        return
    with tempfile.TemporaryDirectory(prefix="farandole-model-") as scratch:
        local = Path(scratch)
        (local / MANIFEST).write_bytes(storage.read(f"{folder}/{MANIFEST}"))
        for name in read_manifest(local)[1]["files"]:
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            (local / name).write_bytes(storage.read(f"{folder}/{name}"))
        yield open_bundle(local)


def _publish(storage: Storage, name: str, content: bytes) -> None:
    draft = storage.draft(name)  # creates the folder, which `write` does not
    draft.write_bytes(content)
    storage.publish(draft, name)


def _folder(digest: str) -> str:
    return f"{_FOLDER}/{digest.removeprefix('sha256:')[:_DIGEST_CHARACTERS]}"
