"""The training in the `native` style: a launcher, and workers that a StatefulSet recreates when they are lost."""

from __future__ import annotations

import json

from farandole.backends.kubernetes.manifests.names import COMPONENT, JOB, LAUNCHER, WORKER
from farandole.backends.kubernetes.manifests.pods import (
    SSH_MOUNT,
    SSH_PORT,
    Object,
    burstable_resources,
    container_spec,
    guaranteed_resources,
    job_volume,
    metadata,
    node_placement,
    pod_spec,
    pod_template,
)
from farandole.backends.kubernetes.manifests.preparation import alive_probe
from farandole.backends.kubernetes.manifests.submission import Submission

_POD_PACKAGE = "farandole.backends.kubernetes.pod"
_BACKOFF_LIMIT = 3
"""How often a lost launcher is restarted; it resumes from the last checkpoint."""


def native_training(submission: Submission) -> list[Object]:
    """Return the workers' headless Service and StatefulSet, at first without replicas, and the launcher's Job."""
    return [_service(submission), _stateful_set(submission), _job(submission)]


def worker_pod(submission: Submission) -> Object:
    """Return the template of a worker's pod: an SSH server through which the launcher starts workers."""
    spec = submission.spec
    devices = {"nvidia.com/gpu": submission.job.resources.gpus * spec.workers_per_pod, **spec.devices}
    volumes = [
        keys_volume(submission, ["authorized_keys", "host_key", "host_key.pub"]),
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": spec.shm}},
    ]
    mounts: list[Object] = [
        {"name": "ssh", "mountPath": SSH_MOUNT, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    # The launcher sends secrets to the workers while they run; the pods themselves have none.
    built = container_spec(
        submission,
        WORKER,
        spec.images.train,
        f"{_POD_PACKAGE}.worker",
        guaranteed_resources(spec.worker, devices),
        mounts,
        secrets=False,
        environment={"FARANDOLE_SSH_PORT": str(SSH_PORT)},
    )
    built["ports"] = [{"name": "ssh", "containerPort": SSH_PORT, "protocol": "TCP"}]
    probe = {"tcpSocket": {"port": "ssh"}, "timeoutSeconds": 3}
    built["readinessProbe"] = {**probe, "periodSeconds": 2, "failureThreshold": 3}
    built["livenessProbe"] = {**probe, "initialDelaySeconds": 30, "periodSeconds": 20, "failureThreshold": 6}
    body = pod_spec(submission, built, volumes, account=None, grace=True)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {JOB: submission.id, COMPONENT: WORKER}},
    }
    return pod_template(submission, WORKER, {**body, "topologySpreadConstraints": [spread], **node_placement(spec)})


def launcher_pod(submission: Submission) -> Object:
    """Return the template of the launcher's pod, which supervises the training."""
    spec = submission.spec
    volume, mount = job_volume(submission)
    volumes = [volume, keys_volume(submission, ["id_rsa", "id_rsa.pub", "host_key.pub"])]
    environment = {
        "FARANDOLE_STYLE": spec.style,
        "FARANDOLE_WORKERS_OBJECT": submission.shared_name("worker"),
        "FARANDOLE_PREPARE_OBJECT": submission.own_name("prepare"),
        "FARANDOLE_STATUS_OBJECT": submission.shared_name("status"),
        "FARANDOLE_CODE": json.dumps({"digest": submission.code.digest, "place": submission.code.location}),
        "FARANDOLE_SUBMISSION": str(submission.number),
    }
    if submission.mlflow_run_id is not None:
        environment["FARANDOLE_MLFLOW_RUN"] = submission.mlflow_run_id
    built = container_spec(
        submission,
        LAUNCHER,
        spec.images.train,
        f"{_POD_PACKAGE}.launcher",
        burstable_resources(spec.launcher),
        [mount, {"name": "ssh", "mountPath": SSH_MOUNT, "readOnly": True}],
        environment=environment,
    )
    built["livenessProbe"] = alive_probe()
    body = pod_spec(submission, built, volumes, account=spec.launcher_account, grace=True)
    return pod_template(submission, LAUNCHER, body)


def keys_volume(submission: Submission, files: list[str]) -> Object:
    """Return a volume with only those keys that a component needs: no worker can log into another one."""
    items = [{"key": name, "path": name} for name in files]
    # The pod's group may read them; SSH uses a private copy, as it accepts no other reader.
    return {
        "name": "ssh",
        "secret": {"secretName": submission.shared_name("ssh"), "defaultMode": 0o440, "items": items},
    }


def _service(submission: Submission) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(submission, submission.shared_name("worker"), WORKER),
        "spec": {
            "clusterIP": "None",
            "selector": {JOB: submission.id, COMPONENT: WORKER},
            "ports": [{"name": "ssh", "port": SSH_PORT, "protocol": "TCP", "targetPort": "ssh"}],
        },
    }


def _stateful_set(submission: Submission) -> Object:
    template = worker_pod(submission)
    template["spec"]["restartPolicy"] = "Always"
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(submission, submission.shared_name("worker"), WORKER),
        "spec": {
            # The launcher requests workers when the dataset is ready, and none when it ends.
            "replicas": 0,
            "serviceName": submission.shared_name("worker"),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {JOB: submission.id, COMPONENT: WORKER}},
            "template": template,
        },
    }


def _job(submission: Submission) -> Object:
    spec = submission.spec
    body: Object = {
        "backoffLimit": _BACKOFF_LIMIT,
        # An error that the launcher reported is final, since it retries by itself; a pod that its node lost is not.
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": LAUNCHER, "operator": "In", "values": [1, 2, 3]},
                },
            ]
        },
        "template": launcher_pod(submission),
    }
    if spec.deadline_s is not None:
        body["activeDeadlineSeconds"] = spec.deadline_s
    if spec.ttl_s is not None:
        body["ttlSecondsAfterFinished"] = spec.ttl_s
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(submission, submission.own_name("launcher"), LAUNCHER),
        "spec": body,
    }
