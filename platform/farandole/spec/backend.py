"""The `backend` part of a job file: where `farandole submit` sends the job. `farandole run` takes no notice of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from farandole.spec.base import Spec
from farandole.spec.kubernetes import Kubernetes
from farandole.spec.ssh import Ssh

BackendName = Literal["local", "hosts", "kubernetes"]


class Backend(Spec):
    """Where the job runs when it is submitted. `farandole submit --backend NAME` overrides `use`."""

    use: BackendName = "local"
    """`local`: a detached process here; `hosts`: workers on machines by SSH; `kubernetes`: pods of a cluster."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Of jobs that wait, the one with the highest priority begins first."""
    hosts: Ssh = Ssh()
    """For `hosts`: how the machines of `resources.hosts` are reached."""
    kubernetes: Kubernetes = Kubernetes()
    """For `kubernetes`: cluster, namespace, queue, images."""
