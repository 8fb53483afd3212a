"""The objects of a job: equal to reviewed golden files, valid by Kubernetes' own schemas, and safe by rules."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from farandole.backends.kubernetes.manifests import Submission, new_id, render
from farandole.backends.kubernetes.manifests.names import QUEUE
from farandole.backends.kubernetes.manifests.submission import CodePackage
from tests.support.cluster_jobs import JOB_ID, cluster_job, submission

GOLDEN = Path(__file__).parent / "golden"
STYLES: dict[str, dict[str, Any]] = {
    "native": {},
    "mpijob": {"style": "mpijob", "queue": "farandole", "workload_priority": "farandole-high"},
}
CRDS = os.environ.get("FARANDOLE_CRD_DIR")


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(style: str, tmp_path: Path) -> list[dict[str, Any]]:
    return render(rich(style, tmp_path))


def rich(style: str, folder: Path) -> Submission:
    """Return a submission that uses nearly every field."""
    kubernetes = {
        **STYLES[style],
        "images": {"pull_secrets": ["registry"]},
        "env": {"AWS_ENDPOINT_URL_S3": "http://seaweedfs:8333"},
        "env_secrets": {"AWS_SECRET_ACCESS_KEY": {"secret": "s3", "key": "secret-key"}},
        "env_from": ["mlflow-user"],
        "env_config_maps": ["farandole-services"],
        "volumes": [{"mount_path": "/data", "claim": "shared"}],
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
        "priority_class": "training",
        "deadline_s": 86400,
        "workers_per_pod": 1,
    }
    return submission(cluster_job(folder, kubernetes=kubernetes))


def of_kind(objects: list[dict[str, Any]], kind: str, ending: str = "") -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(ending)]
    return found


def pod_specs(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the spec of every pod, including that of Spark's executor template."""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        spec = each.get("spec", {})
        if "template" in spec:
            yield name, spec["template"]["spec"]
        for part, replica in spec.get("mpiReplicaSpecs", {}).items():
            yield f"{name} {part}", replica["template"]["spec"]
        if "executor.yaml" in each.get("data", {}):
            yield f"{name} executor", yaml.safe_load(each["data"]["executor.yaml"])["spec"]


def worker_of(objects: list[dict[str, Any]], style: str) -> dict[str, Any]:
    if style == "native":
        return of_kind(objects, "StatefulSet")["spec"]["template"]
    return of_kind(objects, "MPIJob")["spec"]["mpiReplicaSpecs"]["Worker"]["template"]


def launcher_of(objects: list[dict[str, Any]], style: str) -> dict[str, Any]:
    if style == "native":
        return of_kind(objects, "Job", "launcher-1")["spec"]["template"]
    return of_kind(objects, "MPIJob")["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]


def test_objects_equal_the_reviewed_golden_files(style: str, objects: list[dict[str, Any]]) -> None:
    """Set `FARANDOLE_UPDATE_GOLDEN=1` to rewrite the golden files, and review the diff."""
    for each in objects:
        if "job.json" in each.get("data", {}):
            spec = json.loads(each["data"]["job.json"])
            each["data"]["job.json"] = f"a job named {spec['name']}"  # has a file of its own: jobs/job.schema.json
    text = yaml.safe_dump_all(objects, sort_keys=False, width=120)
    path = GOLDEN / f"{style}.yaml"
    if os.environ.get("FARANDOLE_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_same_submission_gives_the_same_objects(style: str, tmp_path: Path) -> None:
    first, second = rich(style, tmp_path), rich(style, tmp_path)
    assert first is not second
    assert render(first) == render(second)


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_objects_are_valid_by_kubernetes_own_schemas(objects: list[dict[str, Any]], version: str) -> None:
    own = [each for each in objects if "." not in each["apiVersion"].partition("/")[0]]
    assert len(own) >= len(objects) - 1
    for each in own:
        kubernetes_validate.validate(each, version, strict=True)
    template = yaml.safe_load(of_kind(objects, "ConfigMap", "-spark")["data"]["executor.yaml"])
    template["metadata"]["name"] = "spark-gives-one"
    template["spec"]["containers"][0]["image"] = "spark-gives-one"
    kubernetes_validate.validate(template, version, strict=True)


@pytest.mark.skipif(CRDS is None, reason="FARANDOLE_CRD_DIR does not name a folder with the operators' CRDs")
def test_mpijob_is_valid_by_the_operators_schema(tmp_path: Path) -> None:
    assert CRDS is not None
    crd = yaml.safe_load((Path(CRDS) / "kubeflow.org_mpijobs.yaml").read_text(encoding="utf-8"))
    (version,) = [each for each in crd["spec"]["versions"] if each["name"] == "v2beta1"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    mpi = of_kind(render(rich("mpijob", tmp_path)), "MPIJob")
    jsonschema.validate(mpi, schema)
    mpi["spec"]["runPolicy"]["cleanPodsPolicy"] = "Running"
    with pytest.raises(jsonschema.ValidationError, match="cleanPodsPolicy"):
        jsonschema.validate(mpi, schema)


def closed(schema: Any) -> Any:
    """Return the schema with every object closed: the API server drops unknown fields silently."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        inner.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        inner = {}
    return inner


def test_no_pod_has_privileges(objects: list[dict[str, Any]]) -> None:
    """Check the requirements of the Pod Security level `restricted`, and a read-only root file system."""
    specs = dict(pod_specs(objects))
    assert len(specs) == 4  # driver, executor, launcher, worker
    for name, spec in specs.items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 1000, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_only_pods_that_use_the_api_get_a_token(objects: list[dict[str, Any]]) -> None:
    accounts = {
        spec["containers"][0]["name"]: (spec.get("serviceAccountName"), spec["automountServiceAccountToken"])
        for _, spec in pod_specs(objects)
    }
    assert accounts == {
        "prepare": ("farandole-spark", True),
        "launcher": ("farandole-launcher", True),
        "worker": (None, False),
        "executor": (None, False),
    }


def test_only_workers_request_gpus(style: str, objects: list[dict[str, Any]]) -> None:
    asked = {
        spec["containers"][0]["name"]: spec["containers"][0].get("resources", {}).get("limits", {})
        for _, spec in pod_specs(objects)
    }
    assert asked["worker"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in asked["launcher"] | asked["prepare"]
    resources = worker_of(objects, style)["spec"]["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]


def test_pods_have_probes_and_shared_memory(style: str, objects: list[dict[str, Any]]) -> None:
    worker = worker_of(objects, style)["spec"]
    (container,) = worker["containers"]
    assert container["readinessProbe"]["tcpSocket"] == container["livenessProbe"]["tcpSocket"] == {"port": "ssh"}
    assert container["ports"] == [{"name": "ssh", "containerPort": 2222, "protocol": "TCP"}]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in worker["volumes"]
    assert worker["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert launcher_of(objects, style)["spec"]["containers"][0]["livenessProbe"]


def test_secrets_are_referenced_and_never_copied(style: str, objects: list[dict[str, Any]]) -> None:
    launcher = launcher_of(objects, style)["spec"]["containers"][0]
    by_name = {each["name"]: each for each in launcher["env"]}
    reference = {"secretKeyRef": {"name": "s3", "key": "secret-key"}}
    assert by_name["AWS_SECRET_ACCESS_KEY"] == {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": reference}
    assert {"secretRef": {"name": "mlflow-user"}} in launcher["envFrom"]
    # Workers get them from the launcher, for as long as a gang runs.
    worker = worker_of(objects, style)["spec"]["containers"][0]
    assert not [each for each in worker["env"] if "valueFrom" in each]
    assert worker["envFrom"] == [{"configMapRef": {"name": "farandole-services"}}]


def test_worker_cannot_log_into_another_one(tmp_path: Path) -> None:
    objects = render(rich("native", tmp_path))
    volumes = {volume["name"]: volume for volume in worker_of(objects, "native")["spec"]["volumes"]}
    shown = [item["key"] for item in volumes["ssh"]["secret"]["items"]]
    assert shown == ["authorized_keys", "host_key", "host_key.pub"]


def test_no_gpu_waits_for_spark(tmp_path: Path) -> None:
    native, mpi = render(rich("native", tmp_path)), render(rich("mpijob", tmp_path))
    assert of_kind(native, "StatefulSet")["spec"]["replicas"] == 0
    queued = of_kind(mpi, "MPIJob")
    assert queued["spec"]["runPolicy"]["suspend"] is True
    assert QUEUE not in queued["metadata"]["labels"]  # Kueue would admit it at once
    driver = of_kind(mpi, "Job", "prepare-1")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each.get("value") for each in driver["env"]}
    assert variables["FARANDOLE_RELEASES"] == queued["metadata"]["name"]
    assert variables["FARANDOLE_QUEUE"] == "farandole"


def test_defaults_of_the_mpi_operator_are_overridden(tmp_path: Path) -> None:
    spec = of_kind(render(rich("mpijob", tmp_path)), "MPIJob")["spec"]
    assert spec["runPolicy"]["cleanPodPolicy"] == "Running"  # None would keep idle workers with their GPUs
    assert spec["launcherCreationPolicy"] == "WaitForWorkersReady"
    assert spec["sshAuthMountPath"] == "/etc/farandole/ssh"  # user 1000 cannot use /root/.ssh
    replicas = spec["mpiReplicaSpecs"]
    assert replicas["Worker"]["restartPolicy"] == "OnFailure"  # Never would end the pod with its process
    for part in replicas.values():
        volumes = {volume["name"] for volume in part["template"]["spec"]["volumes"]}
        assert "ssh" not in volumes  # the operator mounts its own
    launcher = replicas["Launcher"]["template"]["spec"]["containers"][0]
    # The launcher asks the API for Ready workers; the operator's script lists those that run, without slots.
    assert launcher["command"][1:] == ["-m", "farandole.backends.kubernetes.pod.launcher"]
    assert replicas["Worker"]["template"]["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"
    }


def test_preparation_alone_has_no_workers(tmp_path: Path) -> None:
    objects = render(submission(cluster_job(tmp_path, model=None)))
    assert {each["kind"] for each in objects} == {"ConfigMap", "Service", "Job"}


def test_large_folder_is_referenced_by_its_location(tmp_path: Path) -> None:
    code = CodePackage("d" * 64, location="s3://bucket/farandole/packages/d.package", size_bytes=5_000_000)
    objects = render(submission(cluster_job(tmp_path), code=code))
    assert "binaryData" not in of_kind(objects, "ConfigMap", JOB_ID)
    driver = of_kind(objects, "Job", "prepare-1")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each.get("value") for each in driver["env"]}
    assert json.loads(variables["FARANDOLE_CODE"])["place"] == code.location


@pytest.mark.parametrize("name", ["a", "a-name-that-is-as-long-as-one-in-a-job-file-may-be-xx"])
def test_names_stay_within_the_limits_of_kubernetes(tmp_path: Path, name: str) -> None:
    job = cluster_job(tmp_path, name=name)
    job_id = new_id(job)
    for each in render(submission(job, id=job_id, number=99)):
        assert len(each["metadata"]["name"]) <= 63 - len("-abcde")  # a Job's pods get a suffix
        for value in each["metadata"]["labels"].values():
            assert len(value) <= 63
    assert len(f"{job_id}-worker") <= 52  # a StatefulSet's name and the hash of its revision make a label
    assert len(job_id) <= 47  # Spark's limit for the names of its executors


def test_workers_can_share_pods(tmp_path: Path) -> None:
    job = cluster_job(tmp_path, kubernetes={"workers_per_pod": 4}, resources={"workers": 6, "gpus": 1})
    made = submission(job)
    assert made.worker_pods == 2
    resources = worker_of(render(made), "native")["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "4"
