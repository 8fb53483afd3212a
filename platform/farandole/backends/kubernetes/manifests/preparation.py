"""The preparation: a Job whose driver runs Spark in client mode and creates its own executors."""

from __future__ import annotations

import json
from typing import Any

import yaml

from farandole.backends.kubernetes.manifests.names import EXECUTOR, PREPARE, labels
from farandole.backends.kubernetes.manifests.pods import (
    SPARK_MOUNT,
    Object,
    burstable_resources,
    container_spec,
    job_volume,
    metadata,
    pod_spec,
    pod_template,
)
from farandole.backends.kubernetes.manifests.submission import Submission

DRIVER_PORT, BLOCKS_PORT = 7078, 7079
MASTER = "k8s://https://kubernetes.default.svc:443"
"""The cluster's own API, in the notation of Spark's driver in a pod."""
_BACKOFF_LIMIT = 2
_POD_PACKAGE = "farandole.backends.kubernetes.pod"


def preparation(submission: Submission) -> list[Object]:
    """Return the headless Service by which executors find the driver, Spark's settings, and the Job."""
    return [_service(submission), _settings(submission), _job(submission)]


def _service(submission: Submission) -> Object:
    ports = [{"name": "driver", "port": DRIVER_PORT}, {"name": "blocks", "port": BLOCKS_PORT}]
    pod_labels = labels(submission.id, PREPARE, submission.job.name, submission.number)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(submission, submission.shared_name("prepare"), PREPARE),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {name: value for name, value in pod_labels.items() if "/" in name and "app.kuber" not in name},
            "ports": [{**port, "protocol": "TCP", "targetPort": port["port"]} for port in ports],
        },
    }


def spark_settings(submission: Submission) -> dict[str, str]:
    """Return the content of the driver's `spark-defaults.conf`."""
    spec, executors = submission.spec, submission.spec.executors
    settings = {
        "spark.driver.host": f"{submission.shared_name('prepare')}.{submission.namespace}.svc",
        "spark.driver.bindAddress": "0.0.0.0",
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCKS_PORT),
        # Executors come and go with the work; without a shuffle service, executors with needed shuffle files stay.
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.initialExecutors": str(executors.count),
        "spark.dynamicAllocation.maxExecutors": str(executors.count),
        "spark.dynamicAllocation.executorIdleTimeout": "60s",
        "spark.executor.cores": str(executors.tasks),
        "spark.executor.memory": executors.memory,
        "spark.executor.memoryOverhead": executors.python_memory,
        "spark.kubernetes.namespace": submission.namespace,
        "spark.kubernetes.container.image": spec.images.prepare,
        "spark.kubernetes.container.image.pullPolicy": spec.images.pull_policy,
        "spark.kubernetes.authenticate.serviceAccountName": spec.spark_account,
        "spark.kubernetes.executor.podTemplateFile": f"{SPARK_MOUNT}/executor.yaml",
        "spark.kubernetes.executor.podTemplateContainerName": EXECUTOR,
        "spark.kubernetes.executor.podNamePrefix": submission.id,
        "spark.kubernetes.executor.request.cores": executors.cpus,
        # Executors get everything by their template, so Spark needs no right to create ConfigMaps.
        "spark.kubernetes.executor.disableConfigMap": "true",
        "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        "spark.kubernetes.driver.reusePersistentVolumeClaim": "false",
        "spark.kubernetes.driver.waitToReusePersistentVolumeClaim": "false",
        "spark.pyspark.python": spec.python,
    }
    if spec.images.pull_secrets:
        settings["spark.kubernetes.container.image.pullSecrets"] = ",".join(spec.images.pull_secrets)
    return settings


def _settings(submission: Submission) -> Object:
    lines = [f"{name} {value}\n" for name, value in sorted(spark_settings(submission).items())]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(submission, submission.shared_name("spark"), PREPARE),
        "data": {"spark-defaults.conf": "".join(lines), "executor.yaml": _executor_template(submission)},
    }


def _code(submission: Submission) -> dict[str, str]:
    return {"FARANDOLE_CODE": json.dumps({"digest": submission.code.digest, "place": submission.code.location})}


def _executor_template(submission: Submission) -> str:
    """Return the pod template of executors; Spark adds image, resources, addresses and a scratch folder."""
    volume, mount = job_volume(submission)
    module = f"{_POD_PACKAGE}.executor"
    built = container_spec(
        submission, EXECUTOR, submission.spec.images.prepare, module, {}, [mount], environment=_code(submission)
    )
    for name in ("resources", "imagePullPolicy", "image"):
        del built[name]
    spec = pod_spec(submission, built, [volume], account=None, grace=False)
    template = pod_template(submission, EXECUTOR, spec)
    document: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", **template}
    return yaml.safe_dump(document, sort_keys=False)


def _job(submission: Submission) -> Object:
    spec = submission.spec
    volume, mount = job_volume(submission)
    mounts = [mount, {"name": "spark", "mountPath": SPARK_MOUNT, "readOnly": True}]
    volumes = [volume, {"name": "spark", "configMap": {"name": submission.shared_name("spark")}}]
    environment = {
        "SPARK_CONF_DIR": SPARK_MOUNT,
        **_code(submission),
    }
    if spec.style == "mpijob":
        environment["FARANDOLE_RELEASES"] = submission.own_name("mpi")
        if spec.queue is not None:
            environment["FARANDOLE_QUEUE"] = spec.queue
    built = container_spec(
        submission,
        PREPARE,
        spec.images.prepare,
        f"{_POD_PACKAGE}.prepare",
        burstable_resources(spec.driver),
        mounts,
        environment=environment,
    )
    built["ports"] = [
        {"name": "driver", "containerPort": DRIVER_PORT, "protocol": "TCP"},
        {"name": "blocks", "containerPort": BLOCKS_PORT, "protocol": "TCP"},
    ]
    # Spark makes the driver's pod the owner of its executors, which are deleted with it.
    built["env"].append({"name": "FARANDOLE_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    built["livenessProbe"] = alive_probe()
    body: Object = {
        "backoffLimit": _BACKOFF_LIMIT,
        # Another try does not help against errors in the input or the environment.
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"containerName": PREPARE, "operator": "In", "values": [2, 3]}},
            ]
        },
        "template": pod_template(
            submission, PREPARE, pod_spec(submission, built, volumes, account=spec.spark_account, grace=False)
        ),
    }
    if spec.deadline_s is not None:
        body["activeDeadlineSeconds"] = spec.deadline_s
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(submission, submission.own_name("prepare"), PREPARE),
        "spec": body,
    }


def alive_probe() -> Object:
    """Return a probe of the file that the pod's own thread touches: a process that hangs as a whole is restarted."""
    # A shell, not Python: it runs every half minute.
    script = 'test -n "$(find /tmp/alive -mmin -3)"'
    return {
        "exec": {"command": ["/bin/sh", "-c", script]},
        "initialDelaySeconds": 120,
        "periodSeconds": 30,
        "timeoutSeconds": 10,
        "failureThreshold": 4,
    }
