"""The `backend` part of a job file: where `farandole submit` runs the job, and how it reaches machines or clusters.

`farandole run` ignores it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.base import PathText, Spec
from farandole.spec.tracking import TrackingUri

BackendName = Literal["local", "hosts", "kubernetes"]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
"""An amount in Kubernetes' notation: `500m` CPUs, `4Gi` of memory."""
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""The name of an object in the cluster."""
MountPath = Annotated[str, Field(pattern=r"^/[^:]+$")]
"""An absolute path in a pod."""
Seconds = Annotated[int, Field(ge=1)]
Style = Literal["native", "mpijob"]

_SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE|ACCESS_KEY)", re.IGNORECASE)
_VOLUME_KINDS = ("claim", "host_path", "config_map", "secret")


class Ssh(Spec):
    """SSH access to the machines of `resources.hosts`, and what they must provide.

    Options that are left out come from the user's own SSH configuration. Passwords are never prompted for: SSH keys are
    required.
    """

    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")] | None = None
    """The user name to log in with."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of the SSH servers."""
    identity_file: PathText | None = None
    """The private key file."""
    config_file: PathText | None = None
    """A configuration file for `ssh` that replaces the user's own: names, ports, jump hosts."""
    known_hosts: Literal["accept-new", "strict", "off"] = "accept-new"
    """How host keys are checked: `accept-new` accepts the key of a new host and rejects a key that changed; `strict`
    requires all keys in advance; `off` accepts any key, for isolated networks and hosts that are recreated often."""
    known_hosts_file: PathText | None = None
    """The file in which host keys are stored."""
    connect_timeout_s: Annotated[int, Field(ge=1)] = 5
    """How long a host may take to answer, in seconds."""
    python: str | None = None
    """The Python interpreter on the hosts; it must have the same version of Farandole installed. Default: the same path
    as on this machine."""
    home: str | None = None
    """FARANDOLE_HOME on the hosts: code, caches, and metrics that MLflow has not accepted yet. Default: the variable's
    value there, or `~/.farandole`."""
    address: str | None = None
    """The IPv4 address at which the hosts reach this machine. Default: the address from which SSH reaches them."""
    interface: str | None = None
    """The network interface of the hosts that workers use to connect to each other. Default: the one that SSH connects
    to."""
    min_free_gb: Annotated[float, Field(ge=0)] = 1.0
    """How many gigabytes must be free in `home` on each host."""


class Images(Spec):
    """Container images of the pods. Both contain Python with Farandole; `k8s/images` builds them."""

    prepare: Annotated[str, Field(min_length=1)] = "farandole/prepare:0.1.0"
    """The image of Spark's driver and executors, with Java."""
    train: Annotated[str, Field(min_length=1)] = "farandole/train:0.1.0"
    """The image of the launcher and the workers, with torch, Horovod and OpenSSH."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When a node pulls the images."""
    pull_secrets: tuple[ObjectName, ...] = ()
    """Secrets that hold the registry's credentials."""


class PodResources(Spec):
    """CPUs and memory that a pod requests. Memory is also its limit; CPUs are a limit only for workers."""

    cpus: Quantity
    """CPUs, for example `2` or `500m`."""
    memory: Quantity
    """Memory, for example `4Gi`."""


class Executors(Spec):
    """Spark's executors, which share the preparation."""

    count: Annotated[int, Field(ge=1)] = 2
    """The maximum number of executor pods; idle ones end."""
    cpus: Quantity = "1"
    """CPUs of each executor; it may use more where they are free."""
    tasks: Annotated[int, Field(ge=1)] = 1
    """Concurrent tasks of each executor."""
    memory: Annotated[str, Field(pattern=r"^\d+[kmgt]$")] = "2g"
    """The memory of each executor's JVM. Its Python processes get `python_memory` in addition."""
    python_memory: Annotated[str, Field(pattern=r"^\d+[kmgt]$")] = "1g"
    """The memory of each executor's Python processes."""


class SecretKey(Spec):
    """Reference to one value of a Secret; never the value itself."""

    secret: ObjectName
    """The Secret's name."""
    key: Annotated[str, Field(min_length=1)]
    """The key in the Secret."""


class Toleration(Spec):
    """A node taint that the worker pods tolerate."""

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


class Volume(Spec):
    """A volume of the pods: exactly one of `claim`, `host_path`, `config_map` and `secret`."""

    mount_path: MountPath
    """Where the volume is mounted in the pods."""
    claim: ObjectName | None = None
    """A PersistentVolumeClaim; with more than one node it must allow `ReadWriteMany`."""
    host_path: MountPath | None = None
    """A directory or file of the node itself."""
    config_map: ObjectName | None = None
    """A ConfigMap whose keys become files."""
    secret: ObjectName | None = None
    """A Secret whose keys become files."""
    sub_path: str | None = None
    """Mount only this folder of the volume."""
    read_only: bool = False
    """Whether pods can only read it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in _VOLUME_KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"{found} given; write exactly one of {', '.join(_VOLUME_KINDS)}")
        return self

    @property
    def shared(self) -> bool:
        """True if all pods see the same files in it, so that datasets can be stored there."""
        return self.claim is not None or self.host_path is not None

    def contains(self, path: str) -> bool:
        """Return whether a path of a pod is inside the volume."""
        return PurePosixPath(path).is_relative_to(self.mount_path)


class Kubernetes(Spec):
    """The cluster, and the pods that the job consists of."""

    context: str | None = None
    """The kubeconfig's context. Default: its current context; in a pod without a kubeconfig, the pod's own cluster."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] | None = None
    """The namespace of all objects of the job. Default: the context's namespace, or `farandole`."""
    style: Style = "native"
    """`native`: a Job and a StatefulSet, for any cluster; `mpijob`: an MPIJob of Kubeflow's MPI Operator."""
    queue: ObjectName | None = None
    """The Kueue LocalQueue in which the training waits. For `style: mpijob`."""
    workload_priority: ObjectName | None = None
    """The Kueue WorkloadPriorityClass that orders the queue."""
    priority_class: ObjectName | None = None
    """The PriorityClass of the pods, which decides which pods are preempted on full nodes."""
    storage: PathText | None = None
    """A location that all pods can reach: a URI such as `s3://bucket/farandole`, or a path in one of the `volumes`. It
    replaces FARANDOLE_HOME for datasets, checkpoints, and job folders that are too large for the Kubernetes API."""
    tracking_uri: TrackingUri | None = None
    """MLflow's address as seen from the pods. Default: `tracking.uri`."""
    images: Images = Images()
    """The images of the pods."""
    launcher: PodResources = PodResources(cpus="500m", memory="1Gi")
    """Resources of the launcher, which supervises the workers and needs no GPU."""
    driver: PodResources = PodResources(cpus="1", memory="4Gi")
    """Resources of Spark's driver; `data.memory` of its memory goes to the JVM."""
    executors: Executors = Executors()
    """Resources of Spark's executors."""
    worker: PodResources = PodResources(cpus="2", memory="4Gi")
    """Resources of each worker pod, shared memory included. Its GPUs follow from `resources.gpus`."""
    devices: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Other devices of each worker pod, by their resource names: `rdma/hca: 1`, `amd.com/gpu: 1`."""
    workers_per_pod: Annotated[int, Field(ge=1, le=64)] = 1
    """How many workers share a pod, its memory and its GPUs. The number of GPUs of a node is fastest."""
    shm: Quantity = "1Gi"
    """The size of `/dev/shm` in a worker pod, which counts towards its memory."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of all pods. Everybody who can see the pods can see them: no secrets."""
    env_secrets: dict[str, SecretKey] = Field(default_factory=dict)
    """Environment variables whose values are in Secrets: `AWS_SECRET_ACCESS_KEY: {secret: s3, key: secret-key}`."""
    env_from: tuple[ObjectName, ...] = ()
    """Secrets of which each key becomes an environment variable."""
    env_config_maps: tuple[ObjectName, ...] = ()
    """ConfigMaps of which each key becomes an environment variable of all pods."""
    volumes: tuple[Volume, ...] = ()
    """Volumes of all pods."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes on which workers may run."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the workers tolerate."""
    spark_account: ObjectName = "farandole-spark"
    """The ServiceAccount of Spark's driver, which creates the executors."""
    launcher_account: ObjectName = "farandole-launcher"
    """The ServiceAccount of the launcher, which finds the workers."""
    python: MountPath = "/usr/local/bin/python3"
    """The Python interpreter in the images."""
    home: MountPath = "/home/farandole"
    """The home directory of user 1000 in the images."""
    ttl_s: Annotated[int, Field(ge=0)] | None = 3 * 86_400
    """How long a finished job stays in the API, with its logs, in seconds; null: until it is deleted."""
    deadline_s: Seconds | None = None
    """How long the job may take, waiting included, in seconds. Default: unlimited."""

    @field_validator("env")
    @classmethod
    def _reject_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if _SECRET_NAME.search(name):
                raise ValueError(
                    f"{name}: the name indicates a secret, and job files are stored and shown; put it into a Secret,"
                    f" and write `env_secrets: {{{name}: {{secret: NAME, key: KEY}}}}`"
                )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.style == "native":
            for name in ("queue", "workload_priority"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: has no effect where `style` is native; use `style: mpijob`")
        paths = [volume.mount_path for volume in self.volumes]
        duplicate = next((path for path in paths if paths.count(path) > 1), None)
        if duplicate is not None:
            raise ValueError(f"volumes: two are mounted at {duplicate}; give each its own path")
        return self

    def is_shared(self, path: str) -> bool:
        """Return whether all pods see a path, because it is inside a shared volume."""
        return any(volume.shared and volume.contains(path) for volume in self.volumes)


class Backend(Spec):
    """The backend that runs the job when it is submitted. `farandole submit --backend NAME` overrides `use`."""

    use: BackendName = "local"
    """`local`: a detached process on this machine; `hosts`: workers on machines reached by SSH; `kubernetes`: pods of a
    cluster."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Of the waiting jobs, the one with the highest priority starts first."""
    hosts: Ssh = Ssh()
    """For `hosts`: how the machines of `resources.hosts` are reached."""
    kubernetes: Kubernetes = Kubernetes()
    """For `kubernetes`: cluster, namespace, queue, images."""
