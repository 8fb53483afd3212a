"""`farandole data …` on a small dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from farandole.cli.main import app
from farandole.errors import UserError
from farandole.shards import MANIFEST_NAME, Dataset, Group, Manifest, Schema, ShardWriter, write_manifest
from tests.support.made_data import Made


def _json(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["data", *arguments, "--json"], catch_exceptions=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture
def whole(made: Callable[..., Made]) -> Made:
    """Return a dataset that no test changes."""
    return made("binary")


@pytest.fixture
def copy(whole: Made, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    return Path(shutil.copytree(whole.path, tmp_path / "copy"))


def test_inspect_shows_the_manifest(whole: Made) -> None:
    document = _json("inspect", str(whole.path))
    assert document["digest"] == whole.manifest.digest
    assert document["path"] == str(whole.path)
    shown = CliRunner().invoke(app, ["data", "inspect", str(whole.path)], catch_exceptions=False).stdout
    for word in (whole.manifest.digest, "train", "962", "float32", "width_missing"):
        assert word in shown


def test_head_shows_the_first_rows_by_feature(whole: Made) -> None:
    document = _json("head", str(whole.path), "-n", "3", "--split", "test")
    block = Dataset(whole.path).split("test").block(0)
    rows = document["rows"]
    assert [row["width"] for row in rows] == block["dense"][:3, 0].tolist()
    assert [row["label"] for row in rows] == block["label"][:3].tolist()
    shown = CliRunner().invoke(app, ["data", "head", str(whole.path)], catch_exceptions=False).stdout
    assert "the first 5 of 962 rows" in shown


def test_inspect_writes_a_page(whole: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["data", "inspect", str(whole.path), "--html"], catch_exceptions=False)
    assert done.stdout == "dataset.html\n"
    assert _json("inspect", str(whole.path), "--html", "other.html") == {"path": str(whole.path), "page": "other.html"}
    page = Path("other.html").read_text(encoding="utf-8")
    assert page == Path("dataset.html").read_text(encoding="utf-8")
    assert whole.manifest.digest in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.html", "other.html"]


def test_page_that_cannot_be_written_is_reported_and_leaves_no_file(whole: Made, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    arguments = ["data", "inspect", str(whole.path), "--html"]
    with pytest.raises(UserError, match=r"none/a\.html: cannot be written \(No such file or directory\); choose"):
        CliRunner().invoke(app, [*arguments, str(tmp_path / "none" / "a.html")], catch_exceptions=False)
    with pytest.raises(UserError, match="folder: cannot be written"):
        CliRunner().invoke(app, [*arguments, str(tmp_path / "folder")], catch_exceptions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_file_without_html_option_is_rejected(whole: Made) -> None:
    done = CliRunner().invoke(app, ["data", "inspect", str(whole.path), "page.html"])
    assert done.exit_code == 2
    assert "only --html writes a file" in " ".join(done.stderr.split())


def test_head_summarizes_images_and_tokens(tmp_path: Path) -> None:
    groups = (
        Group(name="dense", kind="numbers", features=("a",)),
        Group(name="picture", kind="image", features=("picture",), shape=(2, 3, 3)),
        Group(name="words", kind="tokens", features=("words",), cardinalities=(99,), shape=(4,)),
    )
    picture = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)
    rows: dict[str, np.ndarray] = {
        "dense": np.array([[0.5], [1.5]], dtype=np.float32),
        "picture": picture,
        "words": np.array([[7, 8, 0, 0], [1, 2, 3, 4]], dtype=np.int32),
    }
    schema = Schema(groups=groups)
    writer = ShardWriter(tmp_path, "train", 0, schema, 10)
    writer.write(rows)
    manifest = Manifest(
        digest="d",
        columns=schema,
        splits={"train": (writer.close(),)},
        preprocessing={},
        statistics={},
        split_rule={},
        sources=(),
        request="",
        code_version={},
    )
    write_manifest(tmp_path, manifest)
    found = _json("head", str(tmp_path))["rows"]
    assert found == [
        {
            "a": 0.5,
            "picture": {"shape": [2, 3, 3], "min": 0, "max": 17, "first": [0, 1, 2, 3, 4, 5, 6, 7]},
            "words": {"shape": [4], "min": 0, "max": 8, "first": [7, 8, 0, 0]},
        },
        {
            "a": 1.5,
            "picture": {"shape": [2, 3, 3], "min": 18, "max": 35, "first": [18, 19, 20, 21, 22, 23, 24, 25]},
            "words": {"shape": [4], "min": 1, "max": 4, "first": [1, 2, 3, 4]},
        },
    ]
    shown = CliRunner().invoke(app, ["data", "head", str(tmp_path)], catch_exceptions=False).stdout
    for text in ("[2 x 3 x 3]", "0 to 17", "0 1 2 3 4 5 6 7 …", "7 8 0 0 "):
        assert text in shown


def test_verify_names_damaged_record_batches(copy: Path) -> None:
    runner = CliRunner()
    assert "match the manifest" in runner.invoke(app, ["data", "verify", str(copy)]).stdout
    shard = sorted((copy / "train").glob("*.arrow"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = runner.invoke(app, ["data", "verify", str(copy)])
    assert done.exit_code == 2
    assert f"{shard}: record batch " in done.stderr
    (problem,) = _json("verify", str(copy))["problems"]
    assert problem["shard"] == f"train/{shard.name}"


def test_diff_is_empty_for_a_copy_and_names_the_digests_otherwise(whole: Made, copy: Path) -> None:
    assert _json("diff", str(whole.path), str(copy))["differences"] == []
    manifest = whole.manifest.model_copy(update={"digest": "0" * 64})
    (copy / MANIFEST_NAME).unlink()
    write_manifest(copy, manifest)
    done = CliRunner().invoke(app, ["data", "diff", str(whole.path), str(copy)])
    assert done.exit_code == 1
    assert whole.manifest.digest[:8] in done.stdout


def test_values_that_look_like_markup_are_shown_unchanged(copy: Path) -> None:
    manifest = Dataset(copy).manifest
    statistics = {"[/red]": {"rows": 9, "distinct": 1, "most_frequent": [["[/b] :smile:", 9]]}}
    write_manifest(copy, manifest.model_copy(update={"statistics": statistics}))
    shown = CliRunner().invoke(app, ["data", "inspect", str(copy)], catch_exceptions=False, env={"COLUMNS": "200"})
    assert "[/red]" in shown.stdout
    assert "[/b] :smile:" in shown.stdout


def test_help_of_head_says_what_decoding_does_to_the_label() -> None:
    shown = CliRunner().invoke(app, ["data", "head", "--help"], catch_exceptions=False).stdout
    assert "the label by its class or in its unit" in " ".join(shown.replace("│", " ").split())
