"""What the job's pods have in common: who they run as, what they see, and how much they may use."""

from __future__ import annotations

from typing import Any

from farandole.backends.kubernetes.manifests.names import labels
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.spec.backend import Kubernetes, PodResources, Volume

USER = 1000
"""The user of all pods, who has no rights beyond their own."""
SSH_PORT = 2222
JOB_MOUNT, SSH_MOUNT, SPARK_MOUNT = "/etc/farandole/job", "/etc/farandole/ssh", "/etc/farandole/spark"
"""Where pods find the spec and the packed folder; the keys; Spark's settings."""
_TERMINATION_GRACE_S = 20
"""Beyond the time that workers have to save their state."""

Object = dict[str, Any]


def metadata(submission: Submission, name: str, component: str, **more: Any) -> Object:
    """The metadata of an object of the job."""
    marked = labels(submission.id, component, submission.job.name, submission.attempt)
    return {"name": name, "namespace": submission.namespace, "labels": marked, **more}


def pod_template(submission: Submission, component: str, spec: Object) -> Object:
    """A pod template with the job's labels."""
    marked = labels(submission.id, component, submission.job.name, submission.attempt)
    return {"metadata": {"labels": marked}, "spec": spec}


def pod_spec(
    submission: Submission, container: Object, volumes: list[Object], *, account: str | None, grace: bool
) -> Object:
    """A pod's spec around its one container.

    Args:
        submission: The submission.
        container: The container.
        volumes: Volumes that only this kind of pod has.
        account: Its ServiceAccount; None: it has no business with the API, and gets no token.
        grace: Whether it gets the time in which workers save their state.
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
    """The container of a pod, which runs a module of ours as its first process.

    Args:
        submission: The submission.
        name: The container's name.
        image: Its image.
        module: The module.
        resources: What it may use.
        mounts: What only this kind of pod mounts.
        secrets: Whether it gets the variables from Secrets.
        environment: More variables.
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
        # Why it ended, for `status`: the module writes it there; of one that was killed, its last lines.
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
            {"name": name, "valueFrom": {"secretKeyRef": {"name": place.secret, "key": place.key}}}
            for name, place in sorted(spec.env_secrets.items())
        ]
        if spec.env_from:
            built["envFrom"] = [*built.get("envFrom", []), *({"secretRef": {"name": name}} for name in spec.env_from)]
    return built


def guaranteed_resources(asked: PodResources, devices: dict[str, int]) -> Object:
    """Requests and limits that are the same, so that the pod is the last one that a node under pressure evicts."""
    wanted: Object = {"cpu": asked.cpus, "memory": asked.memory}
    wanted |= {name: str(count) for name, count in devices.items() if count}
    return {"requests": wanted, "limits": {**wanted}}


def burstable_resources(asked: PodResources) -> Object:
    """Memory that is its own, and processors that it shares: what is free is used, and nothing slows down a start."""
    return {"requests": {"cpu": asked.cpus, "memory": asked.memory}, "limits": {"memory": asked.memory}}


def job_volume(submission: Submission) -> tuple[Object, Object]:
    """The volume with the spec and the packed folder, and its mount."""
    volume = {"name": "job", "configMap": {"name": submission.id}}
    return volume, {"name": "job", "mountPath": JOB_MOUNT, "readOnly": True}


def node_placement(spec: Kubernetes) -> Object:
    """Where workers may run."""
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
