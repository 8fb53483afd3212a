"""Evaluation of a host's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SpecError
from farandole.launch.agent.probe import versions
from farandole.launch.ssh.preflight import HostCheck, check_hosts, check_job, evaluate_probe
from farandole.spec import Job, parse_job


def _job(**changes: Any) -> Job:
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    return parse_job({"name": "small", "data": {**data, "output": "/data"}, **changes})


def _evaluate(job: Job | None = None, digest: str | None = None, **changes: Any) -> list[HostCheck]:
    answer = {
        "versions": versions(),
        "time_s": 1000.0,
        "home": "/home/x",
        "free_gb": 9.0,
        "writable": True,
        "address": "10.0.0.1",
        **changes,
    }
    return evaluate_probe(job or _job(), "node1", answer, digest, 1000.0, 1002.0)


def _failed(*arguments: Any, **changes: Any) -> list[str]:
    return [str(check) for check in _evaluate(*arguments, **changes) if not check.ok]


def test_correct_host_passes_all_checks() -> None:
    checks = _evaluate(dataset={"digest": "a" * 64}, checkpoints={"shared": True})
    assert [check.name for check in checks] == ["versions", "clock", "disk", "address", "dataset", "checkpoints"]
    assert all(check.ok for check in checks)


@pytest.mark.parametrize(
    ("remote_s", "expected"),
    [(1000.0, None), (1001.5, None), (960.0, "its clock is 40 s behind"), (1033.0, "its clock is 31 s ahead of")],
)
def test_clock_may_differ_by_seconds(remote_s: float, expected: str | None) -> None:
    failed = _failed(time_s=remote_s)
    assert [text.startswith(f"node1: {expected}") for text in failed] == [True] * (expected is not None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"writable": False}, "node1: /home/x cannot be written; change its permissions, or name another directory"),
        ({"free_gb": 0.5}, "node1: 0.5 GB free in /home/x; at least 1 GB are needed (backend.hosts.min_free_gb)"),
        ({"address": "fe80::1"}, "node1: SSH reaches it by IPv6 (fe80::1); Horovod connects by IPv4"),
        ({"checkpoints": {"shared": False}}, "node1: None is a different directory there than here; train.checkpoint"),
        (
            {"checkpoints": {"problem": "Read-only file system"}},
            "node1: None cannot be written (Read-only file system)",
        ),
        ({"versions": {**versions(), "torch": "1.0"}}, "node1: torch 1.0, here "),
        ({"versions": {**versions(), "horovod": None}}, "node1: horovod missing, here "),
    ],
)
def test_wrong_state_is_reported_with_the_remedy(changes: dict[str, Any], expected: str) -> None:
    (text,) = _failed(**changes)
    assert text.startswith(expected)


def test_dataset_must_be_the_same() -> None:
    (text,) = _failed(None, "b" * 64, dataset={"digest": "a" * 64})
    assert text.startswith("node1: the dataset /data is a different one there: its digest is aaaaaaaaaaaa, here bbbb")
    (text,) = _failed(None, "b" * 64, dataset={"problem": "no manifest"})
    assert text.startswith("node1: it does not see the dataset /data (no manifest); data.output must be a directory")
    assert _failed(None, None, dataset={"problem": "no manifest"}) == [], "the dataset has not been prepared yet"


def test_build_suffix_of_a_version_may_differ() -> None:
    torch = (versions()["torch"] or "").partition("+")[0]
    assert _failed(versions={**versions(), "torch": f"{torch}+cu999"}) == []


def test_settings_that_only_suit_one_machine_are_reported(tmp_path: Path) -> None:
    checkpoints, tracking = check_job(_job(), ["node1", "node2", "node3", "node4"])
    assert str(checkpoints).startswith("train.checkpoint.directory: not set, so checkpoints would be written to one of")
    assert "(node1, node2, node3, ...)" in checkpoints.found
    assert str(tracking).startswith("tracking.uri: sqlite:///")
    assert tracking.remedy == "name an MLflow server that they can reach, http://HOST:PORT"
    assert check_job(_job(), []) == []


def test_job_without_hosts_is_rejected() -> None:
    with pytest.raises(SpecError, match=r"resources\.hosts: not set; write a list"):
        check_hosts(_job())


def test_script_that_fails_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "discover"
    script.write_text("#!/bin/sh\nexit 4\n")
    script.chmod(0o755)
    report = check_hosts(_job(resources={"hosts": {"script": str(script)}}))
    assert not report.is_job_ok
    assert [str(check) for check in report.failed] == [
        f"resources.hosts: {script} ended with exit code 4: no output; fix the script"
    ]
