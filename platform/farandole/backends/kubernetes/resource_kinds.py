"""The kinds of objects that the backend uses, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ResourceKind:
    """A kind of objects.

    Args:
        api: Its group and version; `v1` for the core.
        plural: Its name in paths.
        namespaced: Whether its objects are in a namespace.
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
        """Its name in RBAC's notation: `statefulsets.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_KINDS = {
    "ConfigMap": ResourceKind("v1", "configmaps"),
    "Event": ResourceKind("v1", "events"),
    "Namespace": ResourceKind("v1", "namespaces", namespaced=False),
    "PersistentVolumeClaim": ResourceKind("v1", "persistentvolumeclaims"),
    "Pod": ResourceKind("v1", "pods"),
    "ResourceQuota": ResourceKind("v1", "resourcequotas"),
    "Secret": ResourceKind("v1", "secrets"),
    "Service": ResourceKind("v1", "services"),
    "ServiceAccount": ResourceKind("v1", "serviceaccounts"),
    "Deployment": ResourceKind("apps/v1", "deployments"),
    "ReplicaSet": ResourceKind("apps/v1", "replicasets"),
    "StatefulSet": ResourceKind("apps/v1", "statefulsets"),
    "Job": ResourceKind("batch/v1", "jobs"),
    "HorizontalPodAutoscaler": ResourceKind("autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ResourceKind("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ResourceKind("policy/v1", "poddisruptionbudgets"),
    "PriorityClass": ResourceKind("scheduling.k8s.io/v1", "priorityclasses", namespaced=False),
    "SelfSubjectAccessReview": ResourceKind("authorization.k8s.io/v1", "selfsubjectaccessreviews", namespaced=False),
    "MPIJob": ResourceKind("kubeflow.org/v2beta1", "mpijobs"),
    "LocalQueue": ResourceKind("kueue.x-k8s.io/v1beta2", "localqueues"),
    "Workload": ResourceKind("kueue.x-k8s.io/v1beta2", "workloads"),
}


def resource_kind(name: str) -> ResourceKind:
    """Return the kind with a name."""
    return _KINDS[name]
