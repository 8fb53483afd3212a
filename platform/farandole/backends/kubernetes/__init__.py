"""The backend `kubernetes`: jobs are objects of a cluster, whose API is the only store.

The official client is imported when the cluster is first asked for something: `farandole plan` does without it.
"""

from farandole.backends.kubernetes.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]
