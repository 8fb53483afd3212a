"""The training in the `mpijob` style: an MPIJob of Kubeflow's MPI Operator, which may wait in a queue of Kueue.

The operator creates the pods. The launcher in them works as in every style: its hosts are the worker pods that are
Ready, found by their labels, and it supervises attempts. The operator's own list of hosts is not read, since it names
pods that run but are not ready, and has no slots.
"""

from __future__ import annotations

from farandole.backends.kubernetes.manifests.names import LAUNCHER, WORKLOAD_PRIORITY
from farandole.backends.kubernetes.manifests.pods import SSH_MOUNT, Object, metadata
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.backends.kubernetes.manifests.training import launcher_pod, worker_pod

API, KIND = "kubeflow.org/v2beta1", "MPIJob"
_KEEP = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_BACKOFF_LIMIT = 3


def mpi_training(submission: Submission) -> list[Object]:
    """Return the MPIJob, suspended and in no queue until the dataset is prepared, so that no GPU waits for Spark."""
    spec = submission.spec
    meta = metadata(submission, submission.own_name("mpi"), LAUNCHER)
    if spec.workload_priority:
        meta["labels"] = {**meta["labels"], WORKLOAD_PRIORITY: spec.workload_priority}
    policy: Object = {
        # The default keeps all pods, and idle workers would keep their GPUs.
        "cleanPodPolicy": "Running",
        "backoffLimit": _BACKOFF_LIMIT,
        "suspend": True,
        "schedulingPolicy": {"minAvailable": submission.worker_pods + 1},
    }
    if spec.priority_class:
        policy["schedulingPolicy"]["priorityClass"] = spec.priority_class
    if spec.queue:
        policy["schedulingPolicy"]["queue"] = spec.queue
    if spec.ttl_s is not None:
        policy["ttlSecondsAfterFinished"] = spec.ttl_s
    if spec.deadline_s is not None:
        policy["activeDeadlineSeconds"] = spec.deadline_s
    return [
        {
            "apiVersion": API,
            "kind": KIND,
            "metadata": meta,
            "spec": {
                "slotsPerWorker": spec.workers_per_pod,
                "mpiImplementation": "OpenMPI",
                "launcherCreationPolicy": "WaitForWorkersReady",
                # Not /root/.ssh, as no pod runs as root; SSH gets copies with the modes that it requires.
                "sshAuthMountPath": SSH_MOUNT,
                "runPolicy": policy,
                "mpiReplicaSpecs": {
                    "Launcher": {"replicas": 1, "restartPolicy": "Never", "template": _launcher(submission)},
                    # A worker whose process ends is restarted in its pod; the default is Never.
                    "Worker": {
                        "replicas": submission.worker_pods,
                        "restartPolicy": "OnFailure",
                        "template": _worker(submission),
                    },
                },
            },
        }
    ]


def _launcher(submission: Submission) -> Object:
    return _with_operators_keys(launcher_pod(submission))


def _worker(submission: Submission) -> Object:
    template = _with_operators_keys(worker_pod(submission))
    template["spec"]["restartPolicy"] = "OnFailure"
    # One evicted worker fails an MPIJob for good; requests that equal limits prevent other evictions.
    template["metadata"]["annotations"] = {_KEEP: "false"}
    return template


def _with_operators_keys(template: Object) -> Object:
    """Remove the job's Secret: the operator creates a key pair for each MPIJob and mounts it in all containers."""
    spec = template["spec"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "ssh"]
    for container in spec["containers"]:
        container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "ssh"]
    return template
