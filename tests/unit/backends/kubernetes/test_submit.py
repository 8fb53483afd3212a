from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from farandole.backends.kubernetes.manifests import render
from farandole.backends.kubernetes.objects import JobObjects
from farandole.backends.kubernetes.preflight import parse_quantity, requested_resources
from farandole.backends.kubernetes.submit import adapt_to_version, is_root, load_submission, new_submission, with_owner
from farandole.errors import SpecError
from farandole.launch.code_archive import pack, unpack
from tests.support.cluster_jobs import cluster_job, submission


def in_a_folder(folder: Path, size_bytes: int) -> Path:
    (folder / "job").mkdir()
    (folder / "job" / "weights.bin").write_bytes(secrets.token_bytes(size_bytes))
    return folder / "job"


def local(folder: Path, **kubernetes: object) -> object:
    """Return a job that records on no server, so that none is contacted."""
    return cluster_job(folder, kubernetes=kubernetes, tracking={"uri": "sqlite:///nothing.db"})


def test_small_folder_is_sent_in_the_api(tmp_path: Path) -> None:
    folder = in_a_folder(tmp_path, 600_000)
    made = new_submission(local(folder), "farandole")  # type: ignore[arg-type]
    store = render(made)[0]
    package = base64.b64decode(store["binaryData"]["package.tar.gz"])
    copy = unpack(package, made.code.digest, tmp_path / "copy")
    assert (copy / "weights.bin").read_bytes() == (folder / "weights.bin").read_bytes()


def test_large_folder_needs_a_location(tmp_path: Path) -> None:
    folder = in_a_folder(tmp_path, 1_500_000)
    with pytest.raises(SpecError, match=r"packs into 1,46\d KiB, and the Kubernetes API accepts 900; set backend"):
        new_submission(local(folder, storage=None), "farandole")  # type: ignore[arg-type]


def test_large_folder_is_sent_through_the_storage(tmp_path: Path) -> None:
    folder, storage = in_a_folder(tmp_path, 1_500_000), tmp_path / "storage"
    volumes = [{"mount_path": str(storage), "claim": "shared"}]
    made = new_submission(local(folder, storage=str(storage), volumes=volumes), "farandole")  # type: ignore[arg-type]
    assert made.code.content is None
    assert made.code.location == f"{storage}/packages/{made.code.digest}.package"
    assert Path(made.code.location).read_bytes() == pack(folder).data


def test_retry_is_rendered_from_the_stored_job(tmp_path: Path) -> None:
    first = submission(cluster_job(tmp_path), run_link="{}")
    again = load_submission(JobObjects(render(first)[0]), 2)
    assert again.number == 2
    assert (again.job, again.code, again.mlflow_run_id) == (first.job, first.code, first.mlflow_run_id)
    names = [{each["metadata"]["name"] for each in render(made) if each["kind"] == "Job"} for made in (first, again)]
    assert not names[0] & names[1]


def test_job_that_trains_owns_all_objects(tmp_path: Path) -> None:
    for job in (cluster_job(tmp_path), cluster_job(tmp_path, kubernetes={"style": "mpijob"})):
        made = submission(job)
        (root,) = [each for each in render(made) if is_root(each, made)]
        assert root["metadata"]["labels"]["farandole.dev/component"] == "launcher"
    alone = submission(cluster_job(tmp_path, model=None))
    (root,) = [each for each in render(alone) if is_root(each, alone)]
    assert root["metadata"]["name"].endswith("-prepare-1")


def test_owner_is_added_to_a_copy(tmp_path: Path) -> None:
    first = render(submission(cluster_job(tmp_path)))[1]
    changed = with_owner(first, {"kind": "ConfigMap", "name": "a", "uid": "1"})
    assert changed["metadata"]["ownerReferences"][0]["uid"] == "1"
    assert "ownerReferences" not in first["metadata"]


def test_old_api_gets_no_pod_failure_policy(tmp_path: Path) -> None:
    jobs = [each for each in render(submission(cluster_job(tmp_path))) if each["kind"] == "Job"]
    assert all("podFailurePolicy" in each["spec"] for each in jobs)
    assert not any("podFailurePolicy" in adapt_to_version(each, (1, 20))["spec"] for each in jobs)
    assert all(adapt_to_version(each, (1, 31)) == each for each in jobs)


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("4", 4), ("2.5", 2.5), ("1Gi", 2**30), ("1G", 1e9), ("64Mi", 64 * 2**20)]
)
def test_quantities_are_parsed(text: str, number: float) -> None:
    assert parse_quantity(text) == number


def test_requested_resources_of_a_job(tmp_path: Path) -> None:
    job = cluster_job(tmp_path, resources={"workers": 4, "gpus": 1}, kubernetes={"workers_per_pod": 2})
    assert requested_resources(job) == {"cpu": 4.5, "memory": 9 * 2**30, "pods": 3, "nvidia.com/gpu": 4}
