"""The kinds of objects that we deal with, and where the API has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind.

    Args:
        api: Its group and version; `v1` of the core.
        plural: What it is called in paths.
        namespaced: Whether it lies in a namespace.
    """

    api: str
    plural: str
    namespaced: bool = True

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"/{'api' if self.api == 'v1' else 'apis'}/{self.api}"

    @property
    def group(self) -> str:
        """Its group; empty for the core."""
        return self.api.rpartition("/")[0]

    @property
    def shown(self) -> str:
        """As RBAC writes it: `statefulsets.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_KINDS = {
    "ConfigMap": Kind("v1", "configmaps"),
    "Event": Kind("v1", "events"),
    "Namespace": Kind("v1", "namespaces", namespaced=False),
    "PersistentVolumeClaim": Kind("v1", "persistentvolumeclaims"),
    "Pod": Kind("v1", "pods"),
    "ResourceQuota": Kind("v1", "resourcequotas"),
    "Secret": Kind("v1", "secrets"),
    "Service": Kind("v1", "services"),
    "ServiceAccount": Kind("v1", "serviceaccounts"),
    "StatefulSet": Kind("apps/v1", "statefulsets"),
    "Job": Kind("batch/v1", "jobs"),
    "PriorityClass": Kind("scheduling.k8s.io/v1", "priorityclasses", namespaced=False),
    "SelfSubjectAccessReview": Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", namespaced=False),
    "MPIJob": Kind("kubeflow.org/v2beta1", "mpijobs"),
    "LocalQueue": Kind("kueue.x-k8s.io/v1beta2", "localqueues"),
    "Workload": Kind("kueue.x-k8s.io/v1beta2", "workloads"),
}


def kind_of(name: str) -> Kind:
    """The kind of this name."""
    return _KINDS[name]
