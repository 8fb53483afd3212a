from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.errors import SpecError
from farandole.spec import load_job, parse_job, save_job
from tests.support.paths import ROOT

JOBS = sorted((ROOT / "jobs").glob("*/job.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.parent.name)
def test_a_saved_job_is_the_same_job(path: Path, tmp_path: Path) -> None:
    job = load_job(path)
    assert load_job(save_job(job, tmp_path / "again.yaml")) == job


def test_only_what_was_said_is_written(raw: dict[str, Any], tmp_path: Path) -> None:
    job = parse_job(raw, folder=tmp_path)
    saved = yaml.safe_load(save_job(job, tmp_path / "job.yaml").read_text(encoding="utf-8"))
    expected = {
        **raw,
        "data": {**raw["data"], "sources": {"trips": {"format": "csv", "path": str(tmp_path / "trips.csv")}}},
    }
    assert saved == expected
    assert list(saved) == ["name", "data", "model"]


def test_a_query_of_several_lines_stays_readable(raw: dict[str, Any], tmp_path: Path) -> None:
    query = "SELECT *\nFROM trips\nWHERE late IS NOT NULL\n"
    job = parse_job({**raw, "data": {**raw["data"], "query": query}})
    text = save_job(job, tmp_path / "job.yaml").read_text(encoding="utf-8")
    assert "  query: |\n    SELECT *\n    FROM trips\n" in text
    assert "    distance: {kind: numeric}\n" in text
    assert load_job(tmp_path / "job.yaml").data.query == query


def test_a_job_that_is_saved_elsewhere_keeps_its_folder(raw: dict[str, Any], tmp_path: Path) -> None:
    job = parse_job(raw, folder=tmp_path)
    (tmp_path / "sub").mkdir()
    again = load_job(save_job(job, tmp_path / "sub" / "job.yaml"))
    assert again == job
    assert again.folder == str(tmp_path)


def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: other")
    save_job(parse_job(raw), tmp_path / "job.yaml")
    assert load_job(tmp_path / "job.yaml").name == "small"
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_a_place_that_cannot_be_written_is_told(raw: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none/job\.yaml: cannot be written \(No such file or directory\); choose"):
        save_job(parse_job(raw), tmp_path / "none" / "job.yaml")
