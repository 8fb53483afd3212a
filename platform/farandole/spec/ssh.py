"""The `backend.hosts` part of a job file: how machines are reached by SSH."""

from __future__ import annotations

from farandole.spec.base import Spec


class Ssh(Spec):
    """How the machines of `resources.hosts` are reached, and what they have to have."""
