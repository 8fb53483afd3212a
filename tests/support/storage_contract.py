"""Tests of every storage: a subclass runs them on its own storage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farandole.storage import Storage


class StorageContract:
    """Tests of a storage; the subclass has a fixture `storage`, an empty directory."""

    def test_written_file_is_read_back_and_replaced_as_a_whole(self, storage: Storage) -> None:
        for content in (b"first", b"", os.urandom(100_000)):
            storage.write("manifest.json", content)
            assert storage.read("manifest.json") == content
        with pytest.raises(FileNotFoundError):
            storage.read("none.json")

    def test_draft_is_invisible_until_it_is_published(self, storage: Storage) -> None:
        content = os.urandom(11 * 2**20)  # more than one part of an upload
        draft = storage.draft("train/00000")
        draft.write_bytes(content)
        assert [file.name for file in storage.list_files(["train"]) if file.name.endswith(".arrow")] == []
        storage.publish(draft, "train/00000-ab.arrow")
        assert not draft.exists()
        (file,) = storage.list_files(["train"])
        assert (file.name, file.bytes) == ("train/00000-ab.arrow", len(content))
        with storage.as_local_file("train/00000-ab.arrow") as path:
            assert path.read_bytes() == content

    def test_files_are_listed_by_folder_and_sorted(self, storage: Storage) -> None:
        for name in ("test/b", "train/b", "train/a", "other/c"):
            draft = storage.draft(name)
            draft.write_bytes(b"x")
            storage.publish(draft, name)
        listed = storage.list_files(["train", "test", "validation"])
        assert [file.name for file in listed] == ["test/b", "train/a", "train/b"]

    def test_missing_file_can_be_removed_but_not_opened(self, storage: Storage) -> None:
        storage.remove("train/none")
        with pytest.raises(FileNotFoundError), storage.as_local_file("train/none"):
            raise AssertionError("it does not exist")

    def test_touched_file_counts_as_new(self, storage: Storage) -> None:
        draft = storage.draft("train/a")
        draft.write_bytes(b"x")
        storage.publish(draft, "train/a")
        if isinstance(storage.location, Path):
            os.utime(storage.location / "train/a", (1000, 1000))
        (before,) = storage.list_files(["train"])
        storage.touch(["train/a", "train/gone"])
        (after,) = storage.list_files(["train"])
        assert after.modified_s >= before.modified_s
        assert after.modified_s > 1001
