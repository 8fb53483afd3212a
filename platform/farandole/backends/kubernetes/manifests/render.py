"""All objects of one submission, in the order in which they are made."""

from __future__ import annotations

from farandole.backends.kubernetes.manifests.mpijob import mpi_training
from farandole.backends.kubernetes.manifests.pods import Object
from farandole.backends.kubernetes.manifests.preparation import preparation
from farandole.backends.kubernetes.manifests.store import config_maps, ssh_secret
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.backends.kubernetes.manifests.training import native_training


def render(submission: Submission) -> list[Object]:
    """The objects of a submission. The first holds the job, and all others belong to it; the last one starts.

    Args:
        submission: The submission.
    """
    objects = config_maps(submission)
    if submission.job.model is None:
        return [*objects, *preparation(submission)]
    if submission.spec.style == "mpijob":
        return [*objects, *mpi_training(submission), *preparation(submission)]
    return [*objects, ssh_secret(submission), *preparation(submission), *native_training(submission)]
