"""Bundles on this machine: each is downloaded once, checked, and kept in `$FARANDOLE_HOME/cache/bundles` by its digest.

Beside them, `known` remembers which bundle a name stood for when MLflow last answered, so that a service starts without
MLflow. Nobody ever changes a published bundle; a damaged one is replaced.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.bundle import MANIFEST, digest_of, open_bundle
from farandole.bundle.manifest import SIGNATURE
from farandole.errors import FarandoleError, RegistryError, UnavailableError, explain_os_error
from farandole.events import EventHandler, Message, ignore_event
from farandole.process.atomic import atomic_directory, draft_path, publish, write_atomic, write_json
from farandole.spec import Tracking
from farandole.storage import home
from farandole.tracking.model_store.reference import FORMS, ModelReference, parse_model
from farandole.tracking.store import resolve_store

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import LoggedModel, Registry

_MODEL = "model.json"


@dataclass(frozen=True)
class FetchedBundle:
    """A bundle on this machine, and what is known of its origin.

    Args:
        path: Its directory.
        digest: Its digest, `sha256:…`.
        name: The registered model; None if the bundle was named otherwise.
        version: The number of the version.
        run_id: The MLflow run that trained the model.
        is_last_known: True if MLflow did not answer, and this is what it answered the last time.
    """

    path: Path
    digest: str
    name: str | None = None
    version: str | None = None
    run_id: str | None = None
    is_last_known: bool = False


def fetch_bundle(model: str, on_event: EventHandler = ignore_event) -> Path:
    """Return the directory of a model's bundle on this machine; see `fetch`."""
    return fetch(model, on_event).path


def fetch(model: str, on_event: EventHandler = ignore_event, *, tracking: Tracking | None = None) -> FetchedBundle:
    """Download the bundle of a model unless it is on this machine already.

    Args:
        model: A bundle's directory, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN_ID/model`.
        on_event: Receives a warning where MLflow does not answer and the last known bundle is used.
        tracking: Names the MLflow store. Default: `$MLFLOW_TRACKING_URI`, or the SQLite file in `$FARANDOLE_HOME`.

    Raises:
        RegistryError: There is no such model, or it holds no bundle.
        BundleError: The bundle is damaged.
        UnavailableError: MLflow does not answer, and the model was never fetched on this machine.
    """
    reference = parse_model(model)
    if reference.directory is not None:
        path = _find_in_directory(reference.directory)
        return FetchedBundle(path, digest_of((path / MANIFEST).read_bytes()))
    from farandole.tracking.model_store.connection import Registry, StoreAwayError  # MLflow takes long to import

    registry = Registry(None if tracking is None else resolve_store(tracking))
    try:
        found = registry.find(reference)
        fetched = _fetch(registry, reference, found)
    except StoreAwayError as error:
        return _last_known(registry.store.shown, reference, error, on_event)
    _remember(registry.store.shown, reference, fetched)
    return fetched


def bundle_files(registry: Registry, reference: ModelReference, found: LoggedModel) -> tuple[str, dict[str, int]]:
    """Return the digest of a model's bundle, and the sizes of its files in bytes; only its manifest is downloaded.

    Raises:
        RegistryError: The model holds no bundle.
        UnavailableError: MLflow does not answer.
    """
    with registry.errors():
        repository = registry.artifacts(found.location)
        content = _read_manifest(repository, find_folder(repository, reference))
    try:
        files = {path: int(entry["bytes"]) for path, entry in json.loads(content)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{reference.text}: the manifest of its bundle is damaged; log the model again") from error
    return digest_of(content), files


def cached_bundle(digest: str) -> Path | None:
    """Return the directory of a bundle that was fetched before; None if it was not, or is damaged."""
    path = bundles_folder() / digest.removeprefix("sha256:")
    return path if path.is_dir() and not _is_damaged(path) else None


def bundles_folder() -> Path:
    """Return the folder of the bundles that were fetched."""
    return home() / "cache" / "bundles"


def _find_in_directory(directory: Path) -> Path:
    """Return a directory that is a bundle, or the bundle in the directory of an MLflow model."""
    candidates = [directory, *sorted(path.parent for path in directory.glob(f"artifacts/*/{MANIFEST}"))]
    for candidate in candidates:
        if (candidate / MANIFEST).is_file():
            return candidate
    if directory.is_dir():
        raise RegistryError(f"{directory}: holds no bundle (no {MANIFEST}); a model may be {FORMS}")
    raise RegistryError(f"{directory}: there is no such directory; a model may be {FORMS}")


def _fetch(registry: Registry, reference: ModelReference, found: LoggedModel) -> FetchedBundle:
    """Download a bundle into the cache, or find it there."""
    with registry.errors():
        repository = registry.artifacts(found.location)
        folder = find_folder(repository, reference)
        digest = digest_of(_read_manifest(repository, folder))
    fetched = FetchedBundle(Path(), digest, found.name, found.version, found.run_id)
    path = bundles_folder() / digest.removeprefix("sha256:")
    if path.is_dir() and not _is_damaged(path):
        with registry.errors():
            _renew_signature(repository, folder, path)
        return replace(fetched, path=path)
    _withdraw(path)
    try:
        with atomic_directory(path, exist_ok=True) as draft:
            download = draft / ".download"
            download.mkdir()
            with registry.errors():
                local = Path(repository.download_artifacts(folder, str(download)))
            for entry in local.iterdir():
                publish(entry, draft / entry.name)
            shutil.rmtree(download)
            open_bundle(draft)  # checks every file
    except OSError as error:
        raise UnavailableError(explain_os_error(error, error.filename or path)) from error
    return replace(fetched, path=path)


def _renew_signature(repository: Any, folder: str, path: Path) -> None:
    """Copy the signature of a bundle that is cached: a bundle may be signed later, which leaves its digest as it is."""
    if f"{folder}/{SIGNATURE}" not in [entry.path for entry in repository.list_artifacts(folder)]:
        return
    with tempfile.TemporaryDirectory(prefix="farandole-bundle-") as scratch:
        content = Path(repository.download_artifacts(f"{folder}/{SIGNATURE}", scratch)).read_bytes()
    file = path / SIGNATURE
    if not file.exists() or file.read_bytes() != content:
        write_atomic(file, content)


def find_folder(repository: Any, reference: ModelReference) -> str:
    """Return the path of the bundle among the artifacts of an MLflow model."""
    folders = [entry.path for entry in repository.list_artifacts("artifacts") if entry.is_dir]
    for folder in folders:
        names = {entry.path.rpartition("/")[2] for entry in repository.list_artifacts(folder)}
        if {MANIFEST, _MODEL} <= names:
            return str(folder)
    raise RegistryError(
        f"{reference.text}: the model holds no bundle; it was logged by other means or by an earlier version of"
        " Farandole: train it again, with `farandole train JOB.yaml --register`"
    )


def _is_damaged(path: Path) -> bool:
    try:
        open_bundle(path)
    except FarandoleError:
        return True
    return False


def _withdraw(path: Path) -> None:
    """Remove a damaged bundle: no other process finds half of it."""
    draft = draft_path(path)
    try:
        path.rename(draft)
    except FileNotFoundError:
        return
    shutil.rmtree(draft, ignore_errors=True)


def _read_manifest(repository: Any, folder: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="farandole-bundle-") as scratch:
        return Path(repository.download_artifacts(f"{folder}/{MANIFEST}", scratch)).read_bytes()


def _known_file(store: str, reference: ModelReference) -> Path:
    key = hashlib.sha256(f"{store}\0{reference.text}".encode()).hexdigest()
    return bundles_folder() / "known" / f"{key}.json"


def _remember(store: str, reference: ModelReference, fetched: FetchedBundle) -> None:
    file = _known_file(store, reference)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {**asdict(fetched), "path": fetched.path.name, "model": reference.text, "store": store}
    write_json(file, {**content, "fetched_s": time.time()})


def _last_known(
    store: str, reference: ModelReference, error: UnavailableError, on_event: EventHandler
) -> FetchedBundle:
    """Return the bundle that a name stood for when MLflow last answered.

    Raises:
        UnavailableError: It is not known, or its bundle is gone or damaged.
    """
    try:
        known = json.loads(_known_file(store, reference).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnavailableError(f"{reference.text}: this machine has never fetched the model, and {error}") from error
    path = bundles_folder() / known["path"]
    if not path.is_dir() or _is_damaged(path):
        raise UnavailableError(f"{reference.text}: the cached bundle {path} is gone or damaged, and {error}") from error
    which = f"version {known['version']}" if known["version"] else known["digest"]
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(known["fetched_s"]))
    on_event(
        Message(
            f"{reference.text}: {error}; the cached bundle is used: {which}, as MLflow answered at {day}",
            level="warning",
        )
    )
    return FetchedBundle(path, known["digest"], known["name"], known["version"], known["run_id"], is_last_known=True)
