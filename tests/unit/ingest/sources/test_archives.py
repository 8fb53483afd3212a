from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import DataError, PreparationError
from farandole.ingest.sources.files import ensure_local, find_files
from farandole.ingest.sources.fingerprint import FileFingerprint
from farandole.spec import CsvSource, ImageSource
from tests.support.ingest_inputs import HEADER, SMALL


def csv(path: Path | str, **fields: Any) -> CsvSource:
    return CsvSource(path=str(path), **fields)


def refused(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        find_files("rows", csv(path)).fetch()
    return str(caught.value)


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_archive_is_unpacked_once_into_the_cache(tmp_path: Path, farandole_home: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"b.csv": "b", "sub/a.csv": "a", "__MACOSX/x": "", ".DS_Store": ""})
    first = find_files("rows", csv(path)).fetch()
    assert [file.read_text() for file in first.paths] == ["b", "a"]
    assert all(file.is_relative_to(farandole_home / "cache" / "unpacked") for file in first.paths)
    before = [file.stat().st_ctime_ns for file in first.paths]
    again = find_files("rows", csv(path))
    assert again.paths == first.paths
    assert [file.stat().st_ctime_ns for file in again.paths] == before


def test_the_same_archive_gives_the_same_fingerprint_wherever_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": "a"})
    prints = []
    for home in ("here", "there"):
        monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / home))
        files = find_files("rows", csv(path))
        prints += [files.fingerprint, files.fetch().fingerprint, find_files("rows", csv(path)).fingerprint]
    stat = path.stat()
    assert set(prints) == {(FileFingerprint("rows", str(path), stat.st_size, stat.st_mtime_ns),)}


def test_a_changed_archive_is_unpacked_again(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": "old"})
    find_files("rows", csv(path)).fetch()
    zipped(path, {"a.csv": "newer"})
    (member,) = find_files("rows", csv(path)).fetch().paths
    assert member.read_text() == "newer"


def test_archive_that_is_not_unpacked_stands_for_its_members(tmp_path: Path, farandole_home: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": "a"})
    assert find_files("rows", csv(path)).paths == (path,)
    assert not farandole_home.exists()


def damaged_zip(tmp_path: Path, damage: str) -> Path:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": HEADER + SMALL})
    whole = path.read_bytes()
    middle = slice(60, 100)
    broken = {
        "empty": b"",
        "cut short": whole[:100],
        "overwritten": whole[: middle.start] + b"\xff" * 40 + whole[middle.stop :],
        "one bit": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
    }
    path.write_bytes(broken[damage])
    return path


@pytest.mark.parametrize("damage", ["empty", "cut short", "overwritten", "one bit"])
def test_a_damaged_archive_is_refused_and_leaves_no_cache(tmp_path: Path, farandole_home: Path, damage: str) -> None:
    path = damaged_zip(tmp_path, damage)
    message = refused(path)
    assert message.startswith(f"data.sources.rows.path: {path}: is not a whole zip archive (")
    assert message.endswith("; download it again")
    assert not list((farandole_home / "cache").rglob("*.csv"))


def test_an_archive_in_a_folder_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path = zipped(tmp_path / "images" / "a.zip", {"cat/1.png": "x"})
    with pytest.raises(DataError, match=rf"{path}: is an archive in a folder .*; unpack it there, or name the archive"):
        find_files("rows", ImageSource(path=str(tmp_path / "images")))


def test_an_archive_without_data_files_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"__MACOSX/a.csv": "", ".a.csv": ""})
    assert refused(path).endswith("the archive holds no data files; put one into it")
    with pytest.raises(DataError, match="the archive holds no data files"):  # the cache has it now
        find_files("rows", csv(path))


def test_another_machine_unpacks_a_member_under_the_same_path(tmp_path: Path, farandole_home: Path) -> None:
    archive = zipped(tmp_path / "rows.zip", {"rows.csv": HEADER + SMALL})
    (path,) = find_files("rows", csv(archive)).fetch().paths
    content = path.read_bytes()
    shutil.rmtree(farandole_home)  # like on a machine that has never unpacked it
    ensure_local("rows", csv(archive), path)
    assert path.read_bytes() == content


def test_only_a_full_disk_is_asked_for_more_space(
    tmp_path: Path, farandole_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "rows.csv.zip", {"a.csv": HEADER + SMALL})
    for number, expected in ((errno.ENOSPC, "free some space, or set"), (errno.EACCES, "correct the permissions, or")):

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(zipfile.ZipFile, "extractall", fail)
        with pytest.raises(PreparationError, match=rf"unpacking rows.csv.zip: .*; {expected}.* FARANDOLE_HOME"):
            find_files("rows", CsvSource(path=str(path))).fetch()
