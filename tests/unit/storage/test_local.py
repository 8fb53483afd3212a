from __future__ import annotations

from pathlib import Path

import pytest

from farandole.storage import LocalStorage, Storage
from tests.support.storage_contract import StorageContract


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        storage = LocalStorage(tmp_path / "dataset")
        storage.create()
        return storage


def test_local_file_is_the_file_itself(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", b"x")
    with storage.as_local_file("a") as path:
        assert path == tmp_path / "a"
    assert storage.display_path("a") == str(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
