"""The documents: links, records, job files and the generated reference, checked without running a job."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.spec import Job, parse_job
from tests.support.documents import blocks, documents
from tests.support.paths import ROOT

RECORDS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    targets = _LINK.findall(path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_is_at_most_180_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


def test_decision_records_are_numbered_and_have_a_status() -> None:
    assert [path.name[:4] for path in RECORDS] == [f"{number:04d}" for number in range(1, len(RECORDS) + 1)]
    for path in RECORDS:
        title, _, status = path.read_text(encoding="utf-8").splitlines()[:3]
        assert re.match(rf"# {path.name[:4]}\. \S", title), path
        assert re.match(r"Status: (accepted|superseded by \d{4}), \d{4}-\d\d-\d\d", status), path


def test_the_job_file_reference_is_what_the_schema_gives() -> None:
    code = (
        "import runpy; from farandole.spec import Job;"
        "print(runpy.run_path('setup/job_file_reference.py')['render'](Job.model_json_schema()), end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "job_file.md").read_text(encoding="utf-8") == done.stdout, "run `make reference`"


def _base() -> dict[str, Any]:
    (whole,) = (block for block in map(yaml.safe_load, blocks("README.md", "yaml")) if "name" in block)
    return dict(whole)


def _merge(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in part.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _examples() -> list[Any]:
    found = []
    for path in documents():
        name = path.relative_to(ROOT).as_posix()
        found += [pytest.param(text, id=f"{name}-{number}") for number, text in enumerate(blocks(name, "yaml"))]
    return found


@pytest.mark.parametrize("text", _examples())
def test_every_example_of_a_job_file_is_valid(text: str, tmp_path: Path) -> None:
    part = yaml.safe_load(text)
    if not set(part) <= set(Job.model_fields):
        pytest.skip("this is not a part of a job file")
    raw = part if "name" in part else _merge(_base(), part)
    if "privacy" in raw.get("data", {}):  # an example about people, whose columns the base does not have
        raw["data"] = {**raw["data"], "features": {"age": {"kind": "numeric"}, "city": {"kind": "categorical"}}}
    job = parse_job(raw, folder=tmp_path)
    for section, fields in part.items():
        given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)[section]
        assert not isinstance(fields, dict) or set(fields) <= set(given)
