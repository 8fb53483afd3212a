"""The `backend.kubernetes` part of a job file: which cluster, and what the pods are made of."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.base import PathText, Spec
from farandole.spec.tracking import TrackingUri
from farandole.spec.volume import MountPath, ObjectName, Volume

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
"""As Kubernetes writes amounts: `500m` processors, `4Gi` of memory."""
Seconds = Annotated[int, Field(ge=1)]
Style = Literal["native", "mpijob"]

_SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE|ACCESS_KEY)", re.IGNORECASE)


class Images(Spec):
    """The images of the pods. Both hold Python with Farandole; `k8s/images` builds them."""

    prepare: Annotated[str, Field(min_length=1)] = "farandole/prepare:0.1.0"
    """Of Spark's driver and executors: with Java."""
    train: Annotated[str, Field(min_length=1)] = "farandole/train:0.1.0"
    """Of the launcher and the workers: with torch, Horovod and OpenSSH."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When a node asks the registry."""
    pull_secrets: tuple[ObjectName, ...] = ()
    """Secrets with the registry's credentials."""


class PodResources(Spec):
    """What a pod asks for. Of memory it may use no more; of processors only a worker may not."""

    cpus: Quantity
    """Processors, for example `2` or `500m`."""
    memory: Quantity
    """Memory, for example `4Gi`."""


class Executors(Spec):
    """Spark's executors, which share the preparation."""

    count: Annotated[int, Field(ge=1)] = 2
    """How many pods there are at most; those that have nothing to do end."""
    cpus: Quantity = "1"
    """Processors of each; it may use more where they are free."""
    tasks: Annotated[int, Field(ge=1)] = 1
    """Tasks at a time of each."""
    memory: Annotated[str, Field(pattern=r"^\d+[kmgt]$")] = "2g"
    """The memory of each one's JVM. Its Python gets `python_memory` besides."""
    python_memory: Annotated[str, Field(pattern=r"^\d+[kmgt]$")] = "1g"
    """The memory of each one's Python processes."""


class SecretKey(Spec):
    """One value of a Secret: its place, never the value."""

    secret: ObjectName
    """The Secret's name."""
    key: Annotated[str, Field(min_length=1)]
    """The key in it."""


class Toleration(Spec):
    """A taint of nodes that the pods put up with."""

    key: str | None = None
    """The taint's key. Default: any."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """`Equal`: only with this `value`."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect. Default: any."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("`value` and `operator: Equal` belong together; give both or neither")
        return self


class Kubernetes(Spec):
    """The cluster, and what the job's pods are made of."""

    context: str | None = None
    """The kubeconfig's context. Default: its current one; in a pod without kubeconfig, the pod's own cluster."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] | None = None
    """Where all objects of the job lie. Default: the context's, or `farandole`."""
    style: Style = "native"
    """`native`: a Job and a StatefulSet, for any cluster; `mpijob`: an MPIJob of Kubeflow's MPI Operator."""
    queue: ObjectName | None = None
    """Kueue's LocalQueue in which the training waits for its turn. For `style: mpijob`."""
    workload_priority: ObjectName | None = None
    """Kueue's WorkloadPriorityClass: who comes first in the queue."""
    priority_class: ObjectName | None = None
    """The PriorityClass of the pods: who displaces whom on full nodes."""
    storage: PathText | None = None
    """A place that all pods reach: a URI such as `s3://bucket/farandole`, or a path in one of the `volumes`. What
    would lie in FARANDOLE_HOME goes there: datasets, checkpoints, and job folders that are too large for the API."""
    tracking_uri: TrackingUri | None = None
    """MLflow's address as pods see it. Default: `tracking.uri`."""
    images: Images = Images()
    """What the pods run."""
    launcher: PodResources = PodResources(cpus="500m", memory="1Gi")
    """Of the launcher, which supervises the workers and needs no GPU."""
    driver: PodResources = PodResources(cpus="1", memory="4Gi")
    """Of Spark's driver; `data.memory` of it is the JVM's."""
    executors: Executors = Executors()
    """Of Spark's executors."""
    worker: PodResources = PodResources(cpus="2", memory="4Gi")
    """Of each worker pod, shared memory included. Its GPUs follow from `resources.gpus`."""
    devices: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Other devices of each worker pod, by the names that nodes give them: `rdma/hca: 1`, `amd.com/gpu: 1`."""
    workers_per_pod: Annotated[int, Field(ge=1, le=64)] = 1
    """Workers that share a pod, its memory and its GPUs: as many as a node has GPUs is the fastest."""
    shm: Quantity = "1Gi"
    """The size of `/dev/shm` of a worker pod, which counts as its memory."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of all pods. They are seen by everybody who sees the pods: no secrets."""
    env_secrets: dict[str, SecretKey] = Field(default_factory=dict)
    """Environment variables whose values lie in Secrets: `AWS_SECRET_ACCESS_KEY: {secret: s3, key: secret-key}`."""
    env_from: tuple[ObjectName, ...] = ()
    """Secrets each of whose keys becomes an environment variable."""
    env_config_maps: tuple[ObjectName, ...] = ()
    """ConfigMaps each of whose keys becomes an environment variable of all pods."""
    volumes: tuple[Volume, ...] = ()
    """Volumes of all pods."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes on which workers may run."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the workers put up with."""
    spark_account: ObjectName = "farandole-spark"
    """The ServiceAccount of Spark's driver, which makes the executors."""
    launcher_account: ObjectName = "farandole-launcher"
    """The ServiceAccount of the launcher, which finds the workers."""
    python: MountPath = "/usr/local/bin/python3"
    """Python in the images."""
    home: MountPath = "/home/farandole"
    """The home of user 1000 in the images."""
    ttl_s: Annotated[int, Field(ge=0)] | None = 3 * 86_400
    """How long an ended job stays in the API, with its logs; null: until somebody deletes it."""
    deadline_s: Seconds | None = None
    """How long the job may take, waiting included. Default: as long as it needs."""

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if _SECRET_NAME.search(name):
                raise ValueError(
                    f"{name}: by its name a secret, and job files are stored and shown; put it into a Secret, and"
                    f" write `env_secrets: {{{name}: {{secret: NAME, key: KEY}}}}`"
                )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.style == "native":
            for name in ("queue", "workload_priority"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: without effect where `style` is native; use `style: mpijob`")
        paths = [volume.mount_path for volume in self.volumes]
        double = next((path for path in paths if paths.count(path) > 1), None)
        if double is not None:
            raise ValueError(f"volumes: two are mounted at {double}; give each a path of its own")
        return self

    def is_shared(self, place: str) -> bool:
        """Whether all pods see a path: it lies in one of the volumes that is not a pod's own."""
        return any(volume.shared and volume.holds(place) for volume in self.volumes)
