"""Tests of the `resources` part of a job file."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import Resources, parse_host


def _problem(raw: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Resources.model_validate(raw)
    return str(caught.value)


def test_hosts_can_be_a_list_a_file_or_a_script() -> None:
    fixed = Resources.model_validate({"hosts": ["a:2", "b"]}).hosts
    assert fixed is not None
    assert fixed.fixed == ("a:2", "b:1")
    script = Resources.model_validate({"hosts": {"script": "/opt/discover"}}).hosts
    assert script is not None
    assert script.script == "/opt/discover"
    assert Resources.model_validate(Resources(hosts=fixed).model_dump(mode="json")).hosts == fixed


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ({}, "nothing given; write a list of NAME:SLOTS, or one of `file` and `script`"),
        ({"file": "/a", "script": "/b"}, "file and script given"),
        (["a:0"], "'a:0' is not a host; write NAME:SLOTS, for example node1:4"),
        (["a b:1"], "'a b:1' is not a host"),
        (["-oProxyCommand=x"], "is not a host"),
        ([], "at least 1 item"),
    ],
)
def test_invalid_hosts_are_rejected(hosts: Any, text: str) -> None:
    assert text in _problem({"hosts": hosts})


def test_min_workers_cannot_exceed_workers() -> None:
    assert "min_workers: 3 is more than `workers`, 2; use at most 2" in _problem({"workers": 2, "min_workers": 3})
    assert Resources(workers=4).effective_min_workers == 4
    assert Resources(workers=4, min_workers=2).effective_min_workers == 2


def test_host_has_a_name_and_slots() -> None:
    assert parse_host(" node-1.cluster:16 ") == ("node-1.cluster", 16)
