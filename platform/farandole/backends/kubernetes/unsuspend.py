"""Lets an MPIJob begin that was made suspended."""

from __future__ import annotations

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.manifests.names import QUEUE


def unsuspend(cluster: Cluster, name: str, queue: str | None) -> bool:
    """Without a queue the MPIJob goes on; with one, Kueue decides when: it takes notice of the label.

    Returns:
        Whether there is such an MPIJob.
    """
    if queue is not None:
        return cluster.patch("MPIJob", name, {"metadata": {"labels": {QUEUE: queue}}}) is not None
    return cluster.patch("MPIJob", name, {"spec": {"runPolicy": {"suspend": False}}}) is not None
