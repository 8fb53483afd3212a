"""`farandole data …` on a small dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farandole.cli.main import app
from farandole.shards import MANIFEST_NAME, Dataset, write_manifest
from made_data import Made


def _json(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["data", *arguments, "--json"], catch_exceptions=False)
    document: dict[str, object] = json.loads(done.stdout)
    return document


@pytest.fixture
def whole(made: Callable[..., Made]) -> Made:
    """A dataset that nobody changes."""
    return made("binary")


@pytest.fixture
def copy(whole: Made, tmp_path: Path) -> Path:
    """A dataset of the test's own, to be damaged."""
    return Path(shutil.copytree(whole.path, tmp_path / "copy"))


def test_inspect_gives_the_manifest(whole: Made) -> None:
    document = _json("inspect", str(whole.path))
    assert document["digest"] == whole.manifest.digest
    assert document["path"] == str(whole.path)
    shown = CliRunner().invoke(app, ["data", "inspect", str(whole.path)], catch_exceptions=False).stdout
    for word in (whole.manifest.digest, "train", "962", "float32", "width_missing", "statistics"):
        assert word in shown


def test_head_gives_the_first_rows_by_feature(whole: Made) -> None:
    document = _json("head", str(whole.path), "-n", "3", "--split", "test")
    block = Dataset(whole.path).split("test").block(0)
    rows = document["rows"]
    assert isinstance(rows, list)
    assert [row["width"] for row in rows] == block["dense"][:3, 0].tolist()
    assert [row["label"] for row in rows] == block["label"][:3].tolist()
    shown = CliRunner().invoke(app, ["data", "head", str(whole.path)], catch_exceptions=False).stdout
    assert "the first 5 of 962 rows" in shown


def test_verify_says_whole_and_names_what_is_not(copy: Path) -> None:
    runner = CliRunner()
    assert "are as the manifest has them" in runner.invoke(app, ["data", "verify", str(copy)]).stdout
    shard = sorted((copy / "train").glob("*.arrow"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = runner.invoke(app, ["data", "verify", str(copy)])
    assert done.exit_code == 2
    assert f"{shard}: record batch " in done.stderr
    (problem,) = _json("verify", str(copy))["problems"]  # type: ignore[misc]
    assert problem["shard"] == f"train/{shard.name}"  # type: ignore[index]


def test_diff_is_empty_for_a_copy_and_names_the_digests_otherwise(whole: Made, copy: Path) -> None:
    assert _json("diff", str(whole.path), str(copy))["differences"] == []
    manifest = whole.manifest.model_copy(update={"digest": "0" * 64})
    (copy / MANIFEST_NAME).unlink()
    write_manifest(copy, manifest)
    done = CliRunner().invoke(app, ["data", "diff", str(whole.path), str(copy)])
    assert done.exit_code == 1
    assert whole.manifest.digest[:8] in done.stdout
