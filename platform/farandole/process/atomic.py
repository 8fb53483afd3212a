"""Files and directories that appear whole or not at all: drafted beside their path, and then renamed.

Drafts are hidden, `.NAME.RANDOM.tmp`, so that several processes may write the same path at once and the last one wins.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def draft_path(path: Path) -> Path:
    """Return an unused path beside `path`, on the same file system, for a draft of it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def remove_drafts(directory: Path) -> None:
    """Remove drafts of files that killed processes left in a directory; nobody may be writing there now."""
    for path in directory.glob(".*.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


def publish(draft: Path, path: Path) -> None:
    """Rename a finished draft; a file of this name is replaced."""
    os.replace(draft, path)


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Draft a file in the block, and publish it when the block ends without an error.

    Args:
        path: The file; one that exists is replaced.
        durable: Whether to flush the file and its directory entry to the disk.

    Yields:
        The draft's path, which the block has to write.
    """
    draft = draft_path(path)
    try:
        yield draft
        if durable:
            flush(draft)
        publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        flush(path.parent)


def write_atomic(path: Path, content: str | bytes, *, durable: bool = False, mode: int | None = None) -> None:
    """Replace the content of a file.

    Args:
        path: The file.
        content: Bytes, or text for UTF-8.
        durable: Whether to flush the file and its directory entry to the disk.
        mode: The file's permissions. Default: what the process's umask gives.
    """
    with atomic_file(path, durable=durable) as draft:
        if mode is not None:  # before there is content: a secret must not be readable for a moment either
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            draft.chmod(mode)
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any, *, indent: int | None = None, durable: bool = False) -> None:
    """Replace the content of a file by one JSON document and a line feed."""
    write_atomic(path, json.dumps(value, indent=indent) + "\n", durable=durable)


def write_private_json(path: Path, value: Any) -> None:
    """Write a JSON document to a file that no other user can read, not even for a moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)


@contextmanager
def atomic_directory(path: Path, *, exist_ok: bool = False, durable: bool = False) -> Iterator[Path]:
    """Fill a directory in the block, and publish it when the block ends without an error.

    Args:
        path: The directory; its parents are created. One that exists is never replaced.
        exist_ok: Whether to accept a directory that another process has published in the meantime.
        durable: Whether to flush the directory's entries to the disk; the block flushes its files.

    Yields:
        The draft directory, which is empty.

    Raises:
        OSError: A directory of this name exists, and `exist_ok` is not set.
    """
    draft = draft_path(path)
    draft.mkdir(parents=True)
    try:
        yield draft
        if durable:
            flush(draft)
        try:
            draft.rename(path)
        except OSError:
            if not (exist_ok and path.is_dir()):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if durable:
        flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file's content, or a directory's entries, to the disk.

    Some network file systems cannot flush directories; on these, a directory is left as it is.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
