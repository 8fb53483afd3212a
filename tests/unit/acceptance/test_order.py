"""The order in which the acceptance tier runs."""

from __future__ import annotations

from tests.acceptance.__main__ import Part, find_parts, order, subjects_of
from tests.support.paths import ROOT

PARTS = [
    Part("tests/acceptance/cli/test_a.py", 10, cluster=False),
    Part("tests/acceptance/cluster/test_b.py", 10, cluster=True),
    Part("tests/acceptance/docs/test_c.py", 10, cluster=False),
    Part("tests/acceptance/k8s/test_d.py", 10, cluster=True),
    Part("tests/chaos/test_kills.py", 10, cluster=False),
]


def paths(parts: list[Part]) -> list[str]:
    return [part.path.rpartition("/")[2] for part in parts]


def test_each_day_starts_one_file_later() -> None:
    assert paths(order(PARTS, [], 0))[0] == "test_a.py"
    assert paths(order(PARTS, [], 2))[0] == "test_c.py"
    assert paths(order(PARTS, [], 4)) == ["test_kills.py", "test_a.py", "test_b.py", "test_d.py", "test_c.py"]


def test_every_part_runs_once_whatever_the_day() -> None:
    for day in range(10):
        assert sorted(paths(order(PARTS, ["platform/farandole/cli/main.py"], day))) == sorted(paths(PARTS))


def test_parts_that_the_change_touches_come_first() -> None:
    assert paths(order(PARTS, ["README.md"], 0))[0] == "test_c.py"
    assert paths(order(PARTS, ["platform/farandole/cli/main.py"], 3))[0] == "test_a.py"
    assert paths(order(PARTS, ["README.md", "tests/chaos/test_kills.py"], 0))[:2] == ["test_kills.py", "test_c.py"]


def test_parts_that_need_the_cluster_run_together() -> None:
    names = paths(order(PARTS, [], 1))
    assert names.index("test_d.py") == names.index("test_b.py") + 1


def test_subjects_are_packages_and_folders() -> None:
    changed = ["platform/farandole/launch/gang.py", "benchmarks/loader.py", "docs/data.md", "platform/farandole/api.py"]
    assert subjects_of(changed) == {"launch", "benchmarks", "docs", "api"}
    assert subjects_of(["Makefile"]) == set()


def test_all_files_of_the_tier_are_found() -> None:
    found = {part.path for part in find_parts()}
    assert "tests/acceptance/jobs/test_flights.py" in found
    assert all((ROOT / path).is_file() for path in found)
