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


def test_defaults_are_valid(tmp_path: Path) -> None:
    spec = cluster_job(tmp_path).backend.kubernetes
    assert (spec.style, spec.queue, spec.workers_per_pod) == ("native", None, 1)


def test_variable_with_the_name_of_a_secret_is_rejected(tmp_path: Path) -> None:
    message = refused(tmp_path, env={"MLFLOW_TRACKING_PASSWORD": "hunter2"})
    assert "MLFLOW_TRACKING_PASSWORD: the name indicates a secret" in message
    assert "env_secrets" in message
    assert "hunter2" not in message


def test_queue_requires_mpijob_style(tmp_path: Path) -> None:
    assert "queue: has no effect where `style` is native; use `style: mpijob`" in refused(tmp_path, queue="gpus")


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"mount_path": "/data"}, "nothing given; write exactly one of claim, host_path, config_map, secret"),
        ({"mount_path": "/data", "claim": "a", "secret": "b"}, "claim and secret given; write exactly one"),
        ({"mount_path": "data", "claim": "a"}, "mount_path"),
    ],
)
def test_volume_has_exactly_one_kind(tmp_path: Path, volume: dict[str, str], message: str) -> None:
    assert message in refused(tmp_path, volumes=[volume])


def test_two_volumes_cannot_share_a_mount_path(tmp_path: Path) -> None:
    volumes = [{"mount_path": "/data", "claim": "a"}, {"mount_path": "/data", "claim": "b"}]
    assert "volumes: two are mounted at /data" in refused(tmp_path, volumes=volumes)


@pytest.mark.parametrize("amount", ["2 GB", "1,5", "-1", "1gi"])
def test_quantities_use_kubernetes_notation(tmp_path: Path, amount: str) -> None:
    assert "backend.kubernetes.worker.memory" in refused(tmp_path, worker={"cpus": "2", "memory": amount})


def test_misspelled_field_is_reported_with_a_suggestion(tmp_path: Path) -> None:
    assert "did you mean" in refused(tmp_path, namespase="farandole")


@pytest.mark.parametrize("path", ["/data/trips", "/data"])
def test_volume_contains_paths_below_its_mount_path(tmp_path: Path, path: str) -> None:
    spec = cluster_job(tmp_path, kubernetes={"volumes": [{"mount_path": "/data", "claim": "a"}]}).backend.kubernetes
    assert spec.is_shared(path)
    assert not spec.is_shared("/database")


def test_toleration_of_a_value_requires_the_value(tmp_path: Path) -> None:
    message = refused(tmp_path, tolerations=[{"key": "gpu", "operator": "Equal"}])
    assert "`value` and `operator: Equal` belong together" in message


def test_spec_survives_a_round_trip(tmp_path: Path) -> None:
    job = cluster_job(tmp_path, kubernetes={"volumes": [{"mount_path": "/data", "claim": "a"}], "ttl_s": None})
    assert parse_job(job.model_dump(mode="json")) == job


def test_tracking_uri_of_pods_is_checked_like_the_jobs_own(tmp_path: Path) -> None:
    message = refused(tmp_path, tracking_uri="http://ada:s3cr3t@mlflow:5000")
    assert "a password does not belong in a job file" in message
    assert "s3cr3t" not in message
    assert "the address names no host; write http://HOST:PORT" in refused(tmp_path, tracking_uri="http://:5000")
