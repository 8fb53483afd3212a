"""The training as an MPIJob of Kubeflow's MPI Operator, with a turn in a queue of Kueue's.

The operator makes the pods; our launcher in them does what it does everywhere: it takes as hosts the worker pods that
are Ready, by their labels, and supervises attempts. The operator's own list of hosts is not read, as it names pods that
run and are not ready, and without slots.
"""

from __future__ import annotations

from farandole.backends.kubernetes.manifests.names import LAUNCHER, WORKLOAD_PRIORITY
from farandole.backends.kubernetes.manifests.pods import SSH_MOUNT, Object, metadata
from farandole.backends.kubernetes.manifests.submission import Submission
from farandole.backends.kubernetes.manifests.training import launcher_pod, worker_pod

API, KIND = "kubeflow.org/v2beta1", "MPIJob"
_KEEP = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_TRIES_AGAIN = 3


def mpi_training(submission: Submission) -> list[Object]:
    """The MPIJob. It is suspended, and in no queue, until the preparation releases it: no GPU waits for Spark."""
    spec = submission.spec
    marked = metadata(submission, submission.of_attempt("mpi"), LAUNCHER)
    if spec.workload_priority:
        marked["labels"] = {**marked["labels"], WORKLOAD_PRIORITY: spec.workload_priority}
    policy: Object = {
        # The default leaves all pods, so that idle workers would keep their GPUs.
        "cleanPodPolicy": "Running",
        "backoffLimit": _TRIES_AGAIN,
        "suspend": True,
        "schedulingPolicy": {"minAvailable": submission.pods + 1},
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
            "metadata": marked,
            "spec": {
                "slotsPerWorker": spec.workers_per_pod,
                "mpiImplementation": "OpenMPI",
                "launcherCreationPolicy": "WaitForWorkersReady",
                # Not /root/.ssh, for nobody here is root; SSH gets copies with the modes that it wants.
                "sshAuthMountPath": SSH_MOUNT,
                "runPolicy": policy,
                "mpiReplicaSpecs": {
                    "Launcher": {"replicas": 1, "restartPolicy": "Never", "template": _launcher(submission)},
                    # A worker whose process ends comes back in its pod; the default is Never.
                    "Worker": {
                        "replicas": submission.pods,
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
    # One evicted worker fails an MPIJob for good; requests that equal limits see to the rest.
    template["metadata"]["annotations"] = {_KEEP: "false"}
    return template


def _with_operators_keys(template: Object) -> Object:
    """Without our Secret: the operator makes a key pair for each MPIJob, and mounts it in all containers."""
    spec = template["spec"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "ssh"]
    for built in spec["containers"]:
        built["volumeMounts"] = [mount for mount in built["volumeMounts"] if mount["name"] != "ssh"]
    return template
