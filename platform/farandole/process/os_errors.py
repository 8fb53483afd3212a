"""Remedies for errors of the operating system."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise the disk quota",
    errno.EACCES: "correct the permissions",
    errno.EPERM: "correct the permissions",
    errno.EROFS: "make the file system writable",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of the machine",
}


def remedy_of(error: BaseException) -> str | None:
    """Return what the user can do about an error of the operating system, if that is known."""
    return _REMEDIES.get(error.errno) if isinstance(error, OSError) and error.errno is not None else None
