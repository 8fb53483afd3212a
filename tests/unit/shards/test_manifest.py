from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.errors import DatasetError
from farandole.shards import (
    MANIFEST_NAME,
    BlockInfo,
    Manifest,
    Schema,
    ShardInfo,
    content_digest,
    read_manifest,
    write_manifest,
)

Describe = Callable[..., Manifest]

SHARD = ShardInfo(
    file="train/00000-ab.arrow",
    rows=3,
    bytes=600,
    xxh3_128="ab" * 16,
    blocks=(BlockInfo(rows=3, offset=0, bytes=500, xxh3_64="cd" * 8),),
    footer_xxh3_64="ef" * 8,
)


def test_manifest_is_read_as_it_was_written(tmp_path: Path, describe: Describe) -> None:
    manifest = describe(train=(SHARD,), test=())
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(str(tmp_path)) == manifest


def test_same_manifest_gives_the_same_file(tmp_path: Path, describe: Describe) -> None:
    write_manifest(tmp_path, describe(train=(SHARD,)))
    first = (tmp_path / MANIFEST_NAME).read_bytes()
    write_manifest(tmp_path, read_manifest(tmp_path))
    assert (tmp_path / MANIFEST_NAME).read_bytes() == first


def test_writing_leaves_only_the_manifest_readable_by_others(tmp_path: Path, describe: Describe) -> None:
    write_manifest(tmp_path, describe(train=(SHARD,)))
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]
    assert stat.S_IMODE((tmp_path / MANIFEST_NAME).stat().st_mode) == 0o644


def test_failed_write_leaves_the_old_manifest(
    tmp_path: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    manifest = describe(train=(SHARD,))
    write_manifest(tmp_path, manifest)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_manifest(tmp_path, describe(train=()))
    assert read_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_rows_are_counted_by_split(describe: Describe) -> None:
    manifest = describe(train=(SHARD, SHARD), validation=(SHARD,), test=())
    assert manifest.row_counts == {"train": 6, "validation": 3, "test": 0}
    assert manifest.rows("none") == 0


def test_directory_without_manifest_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no manifest\.json, so no dataset .*; run `farandole prepare"):
        read_manifest(tmp_path)
    with pytest.raises(DatasetError, match="no dataset"):
        read_manifest(tmp_path / "none")


def test_path_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_manifest(tmp_path / "file")


def test_changed_line_ending_is_detected(tmp_path: Path, describe: Describe) -> None:
    write_manifest(tmp_path, describe(train=(SHARD,)))
    path = tmp_path / MANIFEST_NAME
    content = path.read_bytes()
    unnoticed = []
    for other in (b"\r", b"\r\n", b" ", b""):
        path.write_bytes(content.replace(b"\n", other, 1))
        try:
            read_manifest(tmp_path)
        except DatasetError:
            continue
        unnoticed.append(other)
    assert unnoticed == []


def test_every_truncation_is_detected(tmp_path: Path, describe: Describe) -> None:
    write_manifest(tmp_path, describe(train=(SHARD,)))
    path = tmp_path / MANIFEST_NAME
    content = path.read_bytes()
    for length in [*range(0, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError):
            read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", "1", "{}", '{"checksum": "x"}', ""])
def test_json_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(DatasetError):
        read_manifest(tmp_path)


def test_other_format_version_is_reported(tmp_path: Path, describe: Describe) -> None:
    write_manifest(tmp_path, describe(train=(SHARD,)).model_copy(update={"format_version": 2}))
    with pytest.raises(
        DatasetError, match="has the format version 2, and this version of Farandole reads 1; prepare the dataset again"
    ):
        read_manifest(tmp_path)


def test_intact_manifest_with_other_fields_is_refused(tmp_path: Path, describe: Describe) -> None:
    class Wider(Manifest):
        more: int = 1

    manifest = describe(train=(SHARD,))
    write_manifest(tmp_path, Wider.model_validate(manifest.model_dump()))
    assert json.loads((tmp_path / MANIFEST_NAME).read_text())["more"] == 1
    with pytest.raises(DatasetError, match="not a manifest of this version"):
        read_manifest(tmp_path)


def test_digest_depends_on_content_and_not_on_names(schema: Schema) -> None:
    digest = content_digest(schema, {"a": 1}, {"train": (SHARD,)})
    assert content_digest(schema, {"a": 1}, {"train": (SHARD.model_copy(update={"file": "elsewhere"}),)}) == digest
    others = [
        content_digest(schema, {"a": 2}, {"train": (SHARD,)}),
        content_digest(schema, {"a": 1}, {"test": (SHARD,)}),
        content_digest(schema, {"a": 1}, {"train": (SHARD, SHARD)}),
        content_digest(schema, {"a": 1}, {"train": (SHARD.model_copy(update={"xxh3_128": "0" * 32}),)}),
        content_digest(schema.model_copy(update={"groups": schema.groups[:1]}), {"a": 1}, {"train": (SHARD,)}),
    ]
    assert len({digest, *others}) == 6
