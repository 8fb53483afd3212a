"""All objects of one submission, in the order in which they are made."""

from __future__ import annotations

from farandole.backends.manifests.mpi import mpi_training
from farandole.backends.manifests.pods import Object
from farandole.backends.manifests.preparing import preparation
from farandole.backends.manifests.store import keys, store
from farandole.backends.manifests.submission import Submission
from farandole.backends.manifests.training import native_training


def render(submission: Submission) -> list[Object]:
    """The objects of a submission. The first holds the job, and all others belong to it; the last one starts.

    Args:
        submission: The submission.
    """
    objects = store(submission)
    if submission.job.model is None:
        return [*objects, *preparation(submission)]
    if submission.spec.style == "mpijob":
        return [*objects, *mpi_training(submission), *preparation(submission)]
    return [*objects, keys(submission), *preparation(submission), *native_training(submission)]
