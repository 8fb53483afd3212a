"""Every error that Farandole raises on purpose.

    FarandoleError                 exit code 1   anything below
    ├── UserError                  exit code 2   the input is wrong, and the user can mend it
    │   ├── SpecError                            a job file or an override
    │   ├── DataError                            source data that cannot become a dataset
    │   ├── DatasetError                         a dataset directory that is missing, damaged or does not fit
    │   ├── StorageRefused                       an object store says no: wrong keys, no such bucket
    │   └── ModelError                           a model builder or the module that it returned
    ├── JobFailed                  exit code 1   the input was right, yet the job did not end well
    │   ├── PreparationFailed                    Spark gave up
    │   ├── StorageFailed                        an object store does not answer, or the cache's disk is full
    │   └── TrainingFailed                       a worker died, raised or ran out of disk
    └── EnvironmentLacking         exit code 3   a program, a device or a server is missing

The text of an error names the place, the value found, the rule and the remedy. Long evidence (a Java stack
trace, a worker's traceback) travels in `detail` and is shown only on request.
"""

from __future__ import annotations


class FarandoleError(Exception):
    """The root of the tree.

    Args:
        message: What the user reads: place, value, rule, remedy.
        detail: Evidence for those who ask for it (`--debug`): a stack trace, the end of a log.
    """

    exit_code = 1

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail


class UserError(FarandoleError):
    """The input is wrong: a job file, data, a dataset directory or a builder."""

    exit_code = 2


class SpecError(UserError):
    """A job file, or an override of one of its fields, breaks a rule."""


class DataError(UserError):
    """Source data cannot become the dataset that the job file describes."""


class DatasetError(UserError):
    """A dataset directory is missing, incomplete, damaged or of another make."""


class StorageAccessError(UserError):
    """An object store understood and refused: wrong or missing keys, no such bucket, a URI it cannot have."""


class ModelError(UserError):
    """A model builder cannot be found, raises, or returns something else than a usable module."""


class JobFailedError(FarandoleError):
    """The job started with sound input and did not reach its end."""


class PreparationError(JobFailedError):
    """Spark could not finish the preparation (disk, memory, a lost executor)."""


class StorageError(JobFailedError):
    """An object store did not answer, however often it was asked; or there is no room for what it sent."""


class TrainingError(JobFailedError):
    """The gang of workers ended before the training did."""


class UnavailableError(FarandoleError):
    """A program, a device or a server that the job needs is not there."""

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
        JobFailedError,
        PreparationError,
        StorageError,
        TrainingError,
        UnavailableError,
    )
}
"""By name: how an error that crossed a process boundary as text becomes itself again."""


def closest_match(word: str, known: list[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None where nothing is close."""
    from difflib import get_close_matches

    matches = get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
