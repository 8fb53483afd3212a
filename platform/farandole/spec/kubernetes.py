"""The `backend.kubernetes` part of a job file: which cluster, and what the pods are made of."""

from __future__ import annotations

from farandole.spec.base import Spec


class Kubernetes(Spec):
    """The cluster, and what the job's pods are made of."""
