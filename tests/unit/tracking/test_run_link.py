from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from farandole.tracking.run_link import (
    COMMAND_VARIABLE,
    RANK_ZERO_SPOOL,
    open_run_link,
    pending_spools,
    read_run_id,
    read_run_link,
    spool_directory,
    write_run_id,
    write_run_link,
)
from farandole.tracking.spool import Spool


def test_a_later_attempt_keeps_the_link_although_the_store_has_moved(tmp_path: Path) -> None:
    first = open_run_link(tmp_path, "http://old", parent="/jobs/sweep")
    assert open_run_link(tmp_path, "http://old") == first
    moved = open_run_link(tmp_path, "http://new")
    assert moved == replace(first, store="http://new")
    assert read_run_link(tmp_path) == moved


def test_a_link_is_copied_to_another_directory(tmp_path: Path) -> None:
    link = open_run_link(tmp_path / "here", "http://store")
    write_run_link(tmp_path / "there", link)
    assert read_run_link(tmp_path / "there") == link
    assert [path.name for path in (tmp_path / "there" / "tracking").iterdir()] == ["record.json"]


def test_a_directory_without_recording_has_no_link_and_no_run(tmp_path: Path) -> None:
    assert read_run_link(tmp_path) is None
    assert read_run_id(tmp_path) is None
    assert pending_spools(tmp_path) == []


def test_the_run_id_is_stored_in_a_new_directory(tmp_path: Path) -> None:
    write_run_id(tmp_path / "new", "0123")
    assert read_run_id(tmp_path / "new") == "0123"


def test_the_spool_of_rank_zero_is_sent_first(tmp_path: Path) -> None:
    for name in ("a-node", "z-node", RANK_ZERO_SPOOL):
        spool = Spool(spool_directory(tmp_path, name))
        spool.append({"op": "tags"})
        spool.close()
    assert [path.name for path in pending_spools(tmp_path)] == [RANK_ZERO_SPOOL, "a-node", "z-node"]


def test_a_new_link_keeps_the_command_that_started_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, "farandole run job.yaml")
    assert open_run_link(tmp_path, "http://store").command == "farandole run job.yaml"
    monkeypatch.setenv(COMMAND_VARIABLE, "farandole retry one")
    assert open_run_link(tmp_path, "http://store").command == "farandole run job.yaml", "an attempt does not change it"
