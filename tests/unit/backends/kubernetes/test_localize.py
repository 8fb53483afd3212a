from __future__ import annotations

import re
from pathlib import Path

import pytest

from farandole.backends.kubernetes.localize import localize
from tests.support.cluster_jobs import cluster_job


def test_paths_below_home_become_paths_in_the_storage(tmp_path: Path) -> None:
    localized = localize(cluster_job(tmp_path))
    assert localized.problems == ()
    assert localized.job.data.output == "s3://bucket/farandole/datasets/small"
    assert localized.job.train.checkpoint.directory == "s3://bucket/farandole/checkpoints"
    assert localized.job.data.master == "k8s://https://kubernetes.default.svc:443"


def test_job_folder_and_its_sources_are_sent_along(tmp_path: Path) -> None:
    job = localize(cluster_job(tmp_path)).job
    assert job.folder == "/home/farandole/code"
    assert job.data.sources["things"].path == "/home/farandole/code/things.csv"


def test_localized_spec_survives_serialization(tmp_path: Path) -> None:
    from farandole.spec import parse_job

    job = localize(cluster_job(tmp_path)).job
    assert parse_job(job.model_dump(mode="json")) == job


def test_master_of_the_job_file_is_kept(tmp_path: Path) -> None:
    job = cluster_job(tmp_path)
    alone = job.model_copy(update={"data": job.data.model_copy(update={"master": "local[*]"})})
    assert localize(alone).job.data.master == "local[*]"


def test_volume_can_hold_everything(tmp_path: Path) -> None:
    volumes = [{"mount_path": "/shared", "claim": "shared"}]
    job = cluster_job(tmp_path, kubernetes={"storage": "/shared/farandole", "volumes": volumes})
    localized = localize(job)
    assert localized.problems == ()
    assert localized.job.data.output == "/shared/farandole/datasets/small"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kubernetes": {"storage": None}}, r"data\.output: .* is on this machine, and pods would not see it"),
        ({"kubernetes": {"storage": "/shared"}}, r"storage: /shared is in none of backend\.kubernetes\.volumes"),
        ({"tracking": {}}, r"tracking\.uri: none is set, and pods record over the network"),
        (
            {"tracking": {"uri": "sqlite:////tmp/a.db"}},
            r"tracking\.uri: sqlite:////tmp/a\.db is a file of this machine",
        ),
    ],
)
def test_locations_that_pods_cannot_reach_are_reported(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    (found, *_) = localize(cluster_job(tmp_path, **changes)).problems
    assert re.search(problem, found)


def test_source_elsewhere_on_this_machine_is_reported(tmp_path: Path) -> None:
    data = {
        "sources": {"things": {"path": "/etc/things.csv", "columns": {"width": "double"}}},
        "features": {"width": {"kind": "numeric"}},
    }
    (problem,) = localize(cluster_job(tmp_path, data=data, model=None)).problems
    assert problem.startswith("data.sources.things.path: /etc/things.csv is on this machine")


def test_key_must_come_from_a_secret(tmp_path: Path) -> None:
    data = cluster_job(tmp_path).data.model_dump(mode="json")
    data["shards"]["encryption"] = {"key": {"environment": "SHARD_KEY"}}
    (problem,) = localize(cluster_job(tmp_path, data=data)).problems
    assert "data.shards.encryption.key.environment: pods have no variable SHARD_KEY" in problem
    secrets = {"env_secrets": {"SHARD_KEY": {"secret": "keys", "key": "shards"}}}
    assert localize(cluster_job(tmp_path, data=data, kubernetes=secrets)).problems == ()


def test_launcher_waits_as_long_as_the_job_may_take(tmp_path: Path) -> None:
    assert localize(cluster_job(tmp_path)).job.resources.wait_s > 86_400
    assert localize(cluster_job(tmp_path, kubernetes={"deadline_s": 600})).job.resources.wait_s == 600


def test_source_in_a_volume_of_pods_is_remote_unless_it_exists_here(tmp_path: Path) -> None:
    here = tmp_path / "data" / "things.csv"
    here.parent.mkdir()
    here.touch()
    volumes = [{"mount_path": "/pods/data", "claim": "data"}, {"mount_path": str(here.parent), "claim": "shared"}]
    data = {
        "sources": {name: {"path": path} for name, path in (("there", "/pods/data/a.csv"), ("here", str(here)))},
        "query": "SELECT * FROM here",
        "features": {"width": {"kind": "numeric"}},
    }
    localized = localize(cluster_job(tmp_path, data=data, model=None, kubernetes={"volumes": volumes}))
    assert localized.remote_sources == {"there"}
    assert not localized.prepares_here


def test_teacher_in_a_directory_of_this_machine_is_reported(tmp_path: Path) -> None:
    volumes = [{"mount_path": "/models", "claim": "models"}]
    for teacher, is_reported in (("/home/me/bundle", True), ("/models/bundle", False), ("models:/small@best", False)):
        job = cluster_job(tmp_path, kubernetes={"volumes": volumes}, train={"distill": {"teacher": teacher}})
        problems = [text for text in localize(job).problems if text.startswith("train.distill.teacher: ")]
        assert bool(problems) == is_reported, teacher
    with_parent = cluster_job(tmp_path, train={"prune": {"model": "/home/me/bundle"}})
    (problem, *_) = localize(with_parent).problems
    assert problem.startswith("train.prune.model: /home/me/bundle is on this machine, and pods would not see it")
