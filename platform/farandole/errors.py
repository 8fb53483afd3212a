"""Every error that Farandole raises on purpose.

    FarandoleError                 exit code 1   anything below
    ├── UserError                  exit code 2   the input is wrong, and the user can fix it
    │   ├── SpecError                            a job file or an override
    │   ├── DataError                            source data that cannot become a dataset
    │   ├── DatasetError                         a dataset directory that is missing, damaged or does not fit
    │   ├── StorageAccessError                   an object store refuses: wrong keys, no such bucket
    │   ├── ModelError                           a model builder or the module that it returned
    │   ├── RegistryError                        a registered model, version or alias that does not exist
    │   └── BundleError                          a bundle that is missing, damaged, changed or not signed as it must be
    ├── JobFailedError             exit code 1   the input was valid, but the job did not succeed
    │   ├── PreparationError                     Spark gave up
    │   ├── StorageError                         an object store does not answer, or the cache's disk is full
    │   └── TrainingError                        a worker died, raised or ran out of disk
    └── UnavailableError           exit code 3   a program, a device or a server is missing

The text of an error states location, value, rule and remedy. Long evidence (a Java stack trace, a worker's traceback)
travels in `detail` and is shown only on request.
"""

from __future__ import annotations

import errno


class FarandoleError(Exception):
    """The root of the tree.

    Args:
        message: What the user reads: location, value, rule, remedy.
        detail: Evidence for those who ask for it (`--debug`): a stack trace, the end of a log.
    """

    exit_code = 1

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        self.next_step: str | None = None
        """Command that continues a failed job, in a sentence; set by the code that runs the job."""


class UserError(FarandoleError):
    """The input is wrong: a job file, data, a dataset directory or a builder."""

    exit_code = 2


class SpecError(UserError):
    """A job file, or an override of one of its fields, breaks a rule."""


class DataError(UserError):
    """Source data cannot become the dataset that the job file describes."""


class DatasetError(UserError):
    """A dataset directory is missing, incomplete, damaged or was made for something else."""


class StorageAccessError(UserError):
    """An object store answered and refused: wrong or missing keys, no such bucket, an invalid URI."""


class ModelError(UserError):
    """A model builder cannot be found, raises, or does not return a usable module."""


class RegistryError(UserError):
    """There is no such registered model, version, alias or run, or the model registry rejects the request."""


class BundleError(UserError):
    """A bundle is missing, incomplete, damaged, of another version, or not signed by the expected key."""


class JobFailedError(FarandoleError):
    """The job started with valid input and did not succeed."""


class PreparationError(JobFailedError):
    """Spark could not finish the preparation (disk, memory, a lost executor)."""


class StorageError(JobFailedError):
    """An object store did not answer in spite of retries, or the disk is too full for what it sent."""


class TrainingError(JobFailedError):
    """The gang of workers ended before the training did."""


class UnavailableError(FarandoleError):
    """A program, a device or a server that the job needs is missing."""

    exit_code = 3


ERRORS: dict[str, type[FarandoleError]] = {
    kind.__name__: kind
    for kind in (
        FarandoleError,
        UserError,
        SpecError,
        DataError,
        DatasetError,
        StorageAccessError,
        ModelError,
        RegistryError,
        BundleError,
        JobFailedError,
        PreparationError,
        StorageError,
        TrainingError,
        UnavailableError,
    )
}
"""Errors by name, to restore one that crossed a process boundary as text."""


_OS_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise the disk quota",
    errno.EACCES: "correct the permissions",
    errno.EPERM: "correct the permissions",
    errno.EROFS: "make the file system writable",
    errno.ENOTDIR: "choose a directory that can be created",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of the machine",
}


def is_disk_full(error: OSError) -> bool:
    """Return whether an operation failed because a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def remedy_of(error: BaseException) -> str | None:
    """Return what the user can do about an error of the operating system, if that is known."""
    return _OS_REMEDIES.get(error.errno) if isinstance(error, OSError) and error.errno is not None else None


def explain_os_error(error: OSError, location: object) -> str:
    """Return location, reason and remedy of an operating system's error; only a full disk asks for more space."""
    text = f"{location}: {error.strerror or error}"
    remedy = remedy_of(error)
    return text if remedy is None else f"{text}; {remedy}"


def closest_match(word: str, known: list[str]) -> str | None:
    """Return the known word that `word` was probably meant to be; None if nothing is close."""
    from difflib import get_close_matches

    matches = get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
