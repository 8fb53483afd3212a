"""Common parts of the job's pods: their user, their volumes and variables, their resources."""

from __future__ import annotations

from typing import Any

from farandole.backends.kubernetes.manifests.names import labels
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.spec.backend import Kubernetes, PodResources, Volume

USER = 1000
"""User id of all pods, without privileges."""
SSH_PORT = 2222
JOB_MOUNT, SSH_MOUNT, SPARK_MOUNT = "/etc/farandole/job", "/etc/farandole/ssh", "/etc/farandole/spark"
"""Mount points of the spec and the packed folder, of the keys, and of Spark's settings."""
_TERMINATION_GRACE_S = 20
"""Grace period beyond the time that workers have to save their state."""

Object = dict[str, Any]


def metadata(submission: Submission, name: str, component: str, **more: Any) -> Object:
    """Return the metadata of an object of the job."""
    pod_labels = labels(submission.id, component, submission.job.name, submission.number)
    return {"name": name, "namespace": submission.namespace, "labels": pod_labels, **more}


def pod_template(submission: Submission, component: str, spec: Object) -> Object:
    """Return a pod template with the job's labels."""
    pod_labels = labels(submission.id, component, submission.job.name, submission.number)
    return {"metadata": {"labels": pod_labels}, "spec": spec}


def pod_spec(
    submission: Submission, container: Object, volumes: list[Object], *, account: str | None, grace: bool
) -> Object:
    """Return a pod's spec around its one container.

    Args:
        submission: The submission.
        container: The container.
        volumes: Volumes of this component alone.
        account: Its ServiceAccount; None: it does not use the API and gets no token.
        grace: Whether its grace period includes the time in which workers save their state.
    """
    spec = submission.spec
    seconds = _TERMINATION_GRACE_S + (round(submission.job.resources.stop_timeout_s) if grace else 0)
    built: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "home", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            *volumes,
            *(_volume(number, volume) for number, volume in enumerate(spec.volumes)),
        ],
    }
    if account is not None:
        built["serviceAccountName"] = account
    if spec.images.pull_secrets:
        built["imagePullSecrets"] = [{"name": name} for name in spec.images.pull_secrets]
    if spec.priority_class:
        built["priorityClassName"] = spec.priority_class
    return built


def container_spec(
    submission: Submission,
    name: str,
    image: str,
    module: str,
    resources: Object,
    mounts: list[Object],
    *,
    secrets: bool = True,
    environment: dict[str, str] | None = None,
) -> Object:
    """Return the container of a pod, whose first process is a module of Farandole.

    Args:
        submission: The submission.
        name: The container's name.
        image: Its image.
        module: The module.
        resources: Its requests and limits.
        mounts: Mounts of this component alone.
        secrets: Whether it gets variables from Secrets.
        environment: Further variables.
    """
    spec = submission.spec
    variables = {
        "HOME": spec.home,
        "FARANDOLE_HOME": f"{spec.home}/.farandole",
        "FARANDOLE_JOB_ID": submission.id,
        "FARANDOLE_NAMESPACE": submission.namespace,
        "PYTHONUNBUFFERED": "1",
        **spec.env,
        **(environment or {}),
    }
    built: Object = {
        "name": name,
        "image": image,
        "imagePullPolicy": spec.images.pull_policy,
        "command": [spec.python, "-m", module],
        "workingDir": spec.home,
        "env": [{"name": key, "value": value} for key, value in sorted(variables.items())],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Why it ended, for `status`: written by the module, or the last lines of a killed container.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "home", "mountPath": spec.home},
            {"name": "tmp", "mountPath": "/tmp"},
            *mounts,
            *(_mount(number, volume) for number, volume in enumerate(spec.volumes)),
        ],
    }
    if spec.env_config_maps:
        built["envFrom"] = [{"configMapRef": {"name": name}} for name in spec.env_config_maps]
    if secrets:
        built["env"] += [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": key.secret, "key": key.key}}}
            for name, key in sorted(spec.env_secrets.items())
        ]
        if spec.env_from:
            built["envFrom"] = [*built.get("envFrom", []), *({"secretRef": {"name": name}} for name in spec.env_from)]
    return built


def guaranteed_resources(requested: PodResources, devices: dict[str, int]) -> Object:
    """Return equal requests and limits, so that a node under pressure evicts the pod last."""
    amounts: Object = {"cpu": requested.cpus, "memory": requested.memory}
    amounts |= {name: str(count) for name, count in devices.items() if count}
    return {"requests": amounts, "limits": {**amounts}}


def burstable_resources(requested: PodResources) -> Object:
    """Return requests with a memory limit but no CPU limit: free processors are used, and no start is slowed down."""
    return {"requests": {"cpu": requested.cpus, "memory": requested.memory}, "limits": {"memory": requested.memory}}


def job_volume(submission: Submission) -> tuple[Object, Object]:
    """Return the volume with the spec and the packed folder, and its mount."""
    volume = {"name": "job", "configMap": {"name": submission.id}}
    return volume, {"name": "job", "mountPath": JOB_MOUNT, "readOnly": True}


def node_placement(spec: Kubernetes) -> Object:
    """Return the fields of a worker's pod that restrict its nodes."""
    built: Object = {}
    if spec.node_selector:
        built["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        built["tolerations"] = [entry.model_dump(exclude_none=True) for entry in spec.tolerations]
    return built


def _volume(number: int, volume: Volume) -> Object:
    name = f"volume-{number}"
    if volume.claim is not None:
        return {"name": name, "persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}
    if volume.host_path is not None:
        return {"name": name, "hostPath": {"path": volume.host_path}}
    if volume.config_map is not None:
        return {"name": name, "configMap": {"name": volume.config_map}}
    return {"name": name, "secret": {"secretName": volume.secret}}


def _mount(number: int, volume: Volume) -> Object:
    mount: Object = {"name": f"volume-{number}", "mountPath": volume.mount_path, "readOnly": volume.read_only}
    return mount | ({"subPath": volume.sub_path} if volume.sub_path else {})
