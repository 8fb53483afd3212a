from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SpecError
from farandole.spec import parse_job
from tests.support.cluster_jobs import cluster_job


def refused(folder: Path, **kubernetes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        cluster_job(folder, kubernetes=kubernetes)
    return str(caught.value)


def test_nothing_needs_to_be_said(tmp_path: Path) -> None:
    spec = cluster_job(tmp_path).backend.kubernetes
    assert (spec.style, spec.queue, spec.workers_per_pod) == ("native", None, 1)


def test_a_secret_by_its_name_is_no_variable(tmp_path: Path) -> None:
    told = refused(tmp_path, env={"MLFLOW_TRACKING_PASSWORD": "hunter2"})
    assert "MLFLOW_TRACKING_PASSWORD: the name indicates a secret" in told
    assert "env_secrets" in told
    assert "hunter2" not in told


def test_a_queue_needs_the_style_that_has_one(tmp_path: Path) -> None:
    assert "queue: has no effect where `style` is native; use `style: mpijob`" in refused(tmp_path, queue="gpus")


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        ({"mount_path": "/data"}, "nothing given; write exactly one of claim, host_path, config_map, secret"),
        ({"mount_path": "/data", "claim": "a", "secret": "b"}, "claim and secret given; write exactly one"),
        ({"mount_path": "data", "claim": "a"}, "mount_path"),
    ],
)
def test_a_volume_is_one_thing_at_one_place(tmp_path: Path, volume: dict[str, str], told: str) -> None:
    assert told in refused(tmp_path, volumes=[volume])


def test_two_volumes_do_not_share_a_place(tmp_path: Path) -> None:
    volumes = [{"mount_path": "/data", "claim": "a"}, {"mount_path": "/data", "claim": "b"}]
    assert "volumes: two are mounted at /data" in refused(tmp_path, volumes=volumes)


@pytest.mark.parametrize("amount", ["2 GB", "1,5", "-1", "1gi"])
def test_amounts_are_as_kubernetes_writes_them(tmp_path: Path, amount: str) -> None:
    assert "backend.kubernetes.worker.memory" in refused(tmp_path, worker={"cpus": "2", "memory": amount})


def test_a_misspelt_field_is_told(tmp_path: Path) -> None:
    assert "did you mean" in refused(tmp_path, namespase="farandole")


@pytest.mark.parametrize("path", ["/data/trips", "/data"])
def test_what_lies_in_a_volume(tmp_path: Path, path: str) -> None:
    spec = cluster_job(tmp_path, kubernetes={"volumes": [{"mount_path": "/data", "claim": "a"}]}).backend.kubernetes
    assert spec.is_shared(path)
    assert not spec.is_shared("/database")


def test_a_toleration_of_a_value_needs_the_value(tmp_path: Path) -> None:
    told = refused(tmp_path, tolerations=[{"key": "gpu", "operator": "Equal"}])
    assert "`value` and `operator: Equal` belong together" in told


def test_it_survives_being_written_out(tmp_path: Path) -> None:
    job = cluster_job(tmp_path, kubernetes={"volumes": [{"mount_path": "/data", "claim": "a"}], "ttl_s": None})
    assert parse_job(job.model_dump(mode="json")) == job


def test_the_address_that_pods_see_is_checked_as_the_jobs_own_is(tmp_path: Path) -> None:
    told = refused(tmp_path, tracking_uri="http://ada:s3cr3t@mlflow:5000")
    assert "a password does not belong in a job file" in told
    assert "s3cr3t" not in told
    assert "the address names no host; write http://HOST:PORT" in refused(tmp_path, tracking_uri="http://:5000")
