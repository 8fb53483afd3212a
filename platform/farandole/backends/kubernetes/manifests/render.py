"""All objects of one submission, in the order of their creation."""

from __future__ import annotations

from farandole.backends.kubernetes.manifests.mpijob import mpi_training
from farandole.backends.kubernetes.manifests.pods import Object
from farandole.backends.kubernetes.manifests.preparation import preparation
from farandole.backends.kubernetes.manifests.store import config_maps, ssh_secret
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.backends.kubernetes.manifests.training import native_training


def render(submission: Submission) -> list[Object]:
    """Return the objects of a submission: the first holds the job, the others belong to it, and the last one starts.

    Args:
        submission: The submission.
    """
    objects = config_maps(submission)
    if not submission.job.has_training:
        return [*objects, *preparation(submission)]
    if submission.spec.style == "mpijob":
        return [*objects, *mpi_training(submission), *preparation(submission)]
    return [*objects, ssh_secret(submission), *preparation(submission), *native_training(submission)]
