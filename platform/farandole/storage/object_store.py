"""Directories of object stores, by pyarrow's file systems: `s3://…`, and whatever else pyarrow knows.

Credentials, endpoint and region come from the standard environment variables (or a profile, or the machine's role, as
the AWS SDK finds them); a URI holds no secrets. The SDK repeats a failed request; what still fails is repeated here as
a whole, with full jitter, so that a thousand workers that lost the same server do not come back together.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from farandole.errors import StorageAccessError, StorageError, closest_match
from farandole.process.retry import Backoff, retry
from farandole.storage.base import StoredFile

TRIES = 5
"""The number of times that an operation is tried; the SDK tries each of its requests `_SDK_TRIES` times as well."""
BACKOFF = Backoff(first_s=0.5, longest_s=20.0, jitter=1.0)
_SDK_TRIES = 3
_CONNECT_TIMEOUT_S = 5.0
_STALL_TIMEOUT_S = 20.0
"""The time without any byte after which a transfer has failed."""
_RANGE_BYTES = 8 * 2**20
_RANGES_AT_ONCE = 4
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SENTINEL_BYTES = 16
_NOTES = "renewed"
_NOTE_LIFETIME_S = 30 * 24 * 3600

_REFUSALS = re.compile(
    r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_SIGNATURE|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID"
    r"|MISSING_AUTHENTICATION_TOKEN|EXPIRED_TOKEN|UNRECOGNIZED_CLIENT|OPT_IN_REQUIRED|NO_SUCH_BUCKET|VALIDATION)"
    r"|HTTP status (301|40[135])|\b(?:InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken)\b"
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket")
_S3_OPTIONS = ("anonymous", "endpoint_override", "region", "scheme", "tls_ca_file_path")

T = TypeVar("T")


class ObjectStorage:
    """A directory of an object store. An object appears under its name when all of it has arrived.

    Args:
        uri: `s3://bucket/folder`, perhaps with `?region=`, `?endpoint_override=`, `?scheme=http`,
            `?tls_ca_file_path=` or `?anonymous=true`; or another URI that pyarrow knows.

    Raises:
        StorageAccessError: The URI cannot be used.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.username or parts.password:
            raise StorageAccessError(
                f"{parts.scheme}://…@{parts.hostname}{parts.path}: a URI must not hold credentials; set"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or use a profile"
            )
        self._uri = uri
        self._display = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._is_s3 = parts.scheme == "s3"
        try:
            self._files, path = _s3(parts, self._display) if self._is_s3 else fs.FileSystem.from_uri(uri)
        except (OSError, pa.ArrowException, ImportError) as error:
            raise StorageAccessError(
                f"{self._display}: cannot be opened ({_first_line(error)}); fix the URI"
            ) from error
        self._root = path.rstrip("/")

    @property
    def location(self) -> str:
        """The URI."""
        return self._uri

    def display_path(self, name: str) -> str:
        """Return the URI of an object, without options."""
        return f"{self._display}/{name}" if name else self._display

    def create(self) -> None:
        """Check that the bucket exists and accepts the credentials; elsewhere, create the directory."""
        if not self._is_s3:
            self._retry("created", "", lambda: self._files.create_dir(self._root, recursive=True))
            return
        self._check_bucket()

    def read(self, name: str) -> bytes:
        """Return the content of a small object."""

        def read() -> bytes:
            with self._files.open_input_file(self._path(name)) as file:
                content = bytearray(file.size())
                _read_range(file, 0, memoryview(content))
                return bytes(content)

        try:
            return self._retry("read", name, read)
        except FileNotFoundError:
            self._check_bucket()
            raise

    def write(self, name: str, content: bytes) -> None:
        """Upload an object in one request."""
        self._retry("written", name, lambda: self._put(name, pa.py_buffer(content)))

    def draft(self, name: str) -> Path:
        """Return a file in this machine's temporary directory."""
        handle, path = tempfile.mkstemp(prefix=f"farandole-{uuid.uuid4().hex}-", suffix=".tmp")
        os.close(handle)
        return Path(path)

    def publish(self, draft: Path, name: str) -> None:
        """Upload the draft, and remove it when the store has all of it."""
        with pa.memory_map(str(draft)) as file:
            content = file.read_buffer()
            self._retry("written", name, lambda: self._put(name, content))
        draft.unlink()

    def download(self, name: str, path: Path, size: int, *, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Write an object's content into a local file, several ranges at once.

        Args:
            name: The object.
            path: The file, which is replaced.
            size: The object's size in bytes.
            is_wanted: Called now and then; False: stop, and leave the file as it is.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store does not answer, or the disk is full.
        """
        self.reserve(path, size, name)
        with path.open("r+b") as target, self._report_full_disk(path, size, name):
            own = threading.local()  # a file and a buffer for each thread

            def read(offset: int, length: int) -> None:
                if not hasattr(own, "file"):
                    own.file, own.buffer = self._files.open_input_file(self._path(name)), bytearray(_RANGE_BYTES)
                view = memoryview(own.buffer)[:length]
                _read_range(own.file, offset, view)
                os.pwrite(target.fileno(), view, offset)

            def copy(offset: int) -> None:
                if is_wanted():
                    self._retry("read", name, lambda: read(offset, min(_RANGE_BYTES, size - offset)))

            with ThreadPoolExecutor(_RANGES_AT_ONCE, "farandole-download") as pool:
                for _ in pool.map(copy, range(0, size, _RANGE_BYTES)):
                    continue

    def reserve(self, path: Path, size: int, name: str) -> None:
        """Create a local file of a size, so that a full disk shows before anything is fetched.

        Raises:
            StorageError: The disk is full.
        """
        with path.open("ab") as file, self._report_full_disk(path, size, name):
            os.truncate(file.fileno(), size)
            if size:
                os.posix_fallocate(file.fileno(), 0, size)

    @contextmanager
    def _report_full_disk(self, path: Path, size: int, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            raise StorageError(
                f"{path.parent}: {error.strerror} while {self.display_path(name)} ({size:,} bytes) was fetched; free"
                " some space, or set FARANDOLE_HOME (for shards: FARANDOLE_CACHE_DIR) to a larger disk"
            ) from error

    @contextmanager
    def as_local_file(self, name: str) -> Iterator[Path]:
        """Provide a copy in this machine's temporary directory."""
        found = self.stat(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.display_path(name))
        with tempfile.TemporaryDirectory(prefix="farandole-") as scratch:
            path = Path(scratch) / "fetched"
            self.download(name, path, found.bytes)
            yield path

    def stat(self, name: str) -> StoredFile | None:
        """Return an object's size and modification time; None if there is no such object."""
        info = self._retry("queried", name, lambda: self._files.get_file_info(self._path(name)))
        if info.type != fs.FileType.File:
            return None
        return StoredFile(name, info.size, (info.mtime_ns or 0) / 1e9)

    def list_files(self, folders: Iterable[str]) -> list[StoredFile]:
        """Return what a listing of the folders shows; a note of `touch` counts as a modification."""
        listed = [file for folder in folders for file in self._list(folder)]
        if not listed:
            return []
        touched: dict[str, float] = {}
        for note in self._list(_NOTES):
            for name in json.loads(self.read(note.name)):
                touched[name] = max(note.modified_s, touched.get(name, 0.0))
        found = [replace(file, modified_s=max(file.modified_s, touched.get(file.name, 0.0))) for file in listed]
        return sorted(found, key=lambda file: file.name)

    def remove(self, name: str) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            self._retry("removed", name, lambda: self._files.delete_file(self._path(name)))

    def touch(self, names: Iterable[str]) -> None:
        """Leave a note with the names, as an object's own time cannot be set; old notes are removed."""
        for note in self._list(_NOTES):
            if time.time() - note.modified_s > _NOTE_LIFETIME_S:
                self.remove(note.name)
        self.write(f"{_NOTES}/{uuid.uuid4().hex}.json", json.dumps(sorted(names)).encode())

    def list_tree(self, folder: str) -> list[StoredFile]:
        """Return all objects below a folder, however deep, sorted by name."""
        return sorted(self._list(folder, recursive=True), key=lambda file: file.name)

    def _list(self, folder: str, *, recursive: bool = False) -> list[StoredFile]:
        root = self._path(folder)
        selector = fs.FileSelector(root, allow_not_found=True, recursive=recursive)
        listed = self._retry("listed", folder, lambda: self._files.get_file_info(selector))
        prefix = f"{folder}/" if folder else ""
        return [
            StoredFile(prefix + info.path.removeprefix(root).lstrip("/"), info.size, (info.mtime_ns or 0) / 1e9)
            for info in listed
            if info.type == fs.FileType.File
        ]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _put(self, name: str, content: pa.Buffer) -> None:
        """Upload an object in one call: closing the stream of an interrupted upload would publish it."""
        path = self._path(name)
        if not self._is_s3:  # an object store has no folders to create
            self._files.create_dir(path.rpartition("/")[0], recursive=True)
        with self._files.open_output_stream(path) as stream:
            stream.write(content)
        size = self._files.get_file_info(path).size
        if size != content.size:
            raise OSError(f"the store has {size} of the {content.size} bytes that were sent")

    def _check_bucket(self) -> None:
        if not self._is_s3:
            return
        bucket = self._root.split("/")[0]
        info = self._retry("queried", "", lambda: self._files.get_file_info(bucket))
        if info.type == fs.FileType.NotFound:
            raise StorageAccessError(f"{self._display}: there is no bucket {bucket}; create it, or fix the URI")

    def _retry(self, done: str, name: str, action: Callable[[], T]) -> T:
        """Call a function until it succeeds, the store refuses, or the tries are used up.

        Args:
            done: What is done with the file, for the error.
            name: The file.
            action: The function.

        Raises:
            FileNotFoundError: There is no such file.
            StorageAccessError: The store refuses.
            StorageError: The store does not answer, or fails again and again.
        """

        def give_up(error: Exception, failures: int, elapsed_s: float) -> Exception | None:
            if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno in _DISK_FULL):
                return error
            reason = _first_line(error)
            if _REFUSALS.search(reason) or isinstance(error, PermissionError):
                return StorageAccessError(self._refusal(name, reason))
            if failures < TRIES:
                return None
            return StorageError(
                f"{self.display_path(name)}: could not be {done} in {TRIES} tries: {reason}; check that the server"
                " answers, and try again"
            )

        return retry(action, BACKOFF, give_up, errors=(OSError, pa.ArrowException))

    def _refusal(self, name: str, reason: str) -> str:
        if _NO_BUCKET.search(reason):
            bucket = self._root.split("/")[0]
            return f"{self.display_path(name)}: there is no bucket {bucket}; create it, or fix the URI"
        return (
            f"{self.display_path(name)}: the store refuses: {reason}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            " (or the profile or role) and their permissions"
        )


def _read_range(file: pa.NativeFile, offset: int, view: memoryview) -> None:
    """Fill `view` with the bytes from `offset` on.

    If an answer is shorter than requested, yet complete in itself, pyarrow reports all bytes as read and leaves the
    rest of the buffer as it was. A random sentinel at its end detects this.
    """
    sentinel = os.urandom(min(_SENTINEL_BYTES, len(view)))
    view[len(view) - len(sentinel) :] = sentinel
    file.seek(offset)
    count = file.readinto(view)
    # A file as short as this may hold just the bytes of a short sentinel; then it is read again, with another one.
    if count != len(view) or (sentinel and view[len(view) - len(sentinel) :] == sentinel):
        raise OSError(f"fewer than the {len(view)} requested bytes arrived from offset {offset} on")


def _s3(parts: SplitResult, display: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path in it. Options in the URI take precedence over the environment."""
    options: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in _S3_OPTIONS:
            close = closest_match(name, list(_S3_OPTIONS))
            hint = f"did you mean {close}?" if close else f"use {', '.join(_S3_OPTIONS)}"
            raise StorageAccessError(f"{display}: the URI has no option {name}; {hint}")
    if not parts.hostname:
        raise StorageAccessError(f"{display}: names no bucket; write s3://BUCKET/FOLDER")
    endpoint = (
        options.get("endpoint_override")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL", "")
    )
    if "://" in endpoint:
        scheme, _, endpoint = endpoint.partition("://")
        options.setdefault("scheme", scheme)
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region and not endpoint:
        with suppress(OSError):  # then the SDK's own default is used
            region = fs.resolve_s3_region(parts.netloc)
    files = fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint.rstrip("/") or None,
        scheme=options.get("scheme"),
        tls_ca_file_path=options.get("tls_ca_file_path"),
        anonymous=options.get("anonymous") == "true",
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_STALL_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_SDK_TRIES),
        allow_delayed_open=True,  # one request for what fits into one
        # Without it, a stream makes a complete object of the parts that did arrive when one did not.
        background_writes=True,
    )
    return files, f"{parts.netloc}{unquote(parts.path)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
