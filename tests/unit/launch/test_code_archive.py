"""Archives are reproducible, hold what git would track, and are unpacked as a whole."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.errors import SpecError, UnavailableError
from farandole.launch import code_archive
from farandole.launch.code_archive import archived_files, pack, unpack


def _write(root: Path, **files: str) -> Path:
    """Write files by name, with `__` for `/`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _put(root: Path, name: str, text: str = "x") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_unpacked_folder_equals_the_packed_one(tmp_path: Path) -> None:
    root = tmp_path / "job"
    _put(root, "network.py", "def build(): ...\n")
    _put(root, "deep/er/ä ö.txt", "ß")
    _put(root, "tool.sh", "#!/bin/sh\n")
    (root / "tool.sh").chmod(0o700)
    archive = pack(root)
    target = unpack(archive.data, archive.digest, tmp_path / "there" / archive.digest)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        "deep/er/ä ö.txt",
        "network.py",
        "tool.sh",
    ]
    assert (target / "network.py").read_text() == "def build(): ...\n"
    assert os.access(target / "tool.sh", os.X_OK)
    assert not os.access(target / "network.py", os.X_OK)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}\.py", fullmatch=True), st.binary(max_size=200), max_size=6
    )
)
def test_equal_files_give_equal_bytes(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    archives = []
    for names in (sorted(files), sorted(files, reverse=True)):
        root = tmp_path_factory.mktemp("folder")
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[name])
            os.utime(path, (number, number))
        archives.append(pack(root))
    assert archives[0] == archives[1]
    assert archives[0].digest == hashlib.sha256(gzip.decompress(archives[0].data)).hexdigest()


def test_ignored_files_are_those_that_git_ignores(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository, root = tmp_path / "repository", tmp_path / "repository" / "jobs" / "one"
    _put(repository, ".gitignore", "*.log\n/jobs/one/data/\n!kept.log\n")
    _put(root, ".gitignore", "secret*\n!secret_of_success.py\nbuild/\n/top.txt\n")
    _put(root, "deep/.gitignore", "*.csv\n!kept.csv\n")
    names = ["network.py", "run.log", "kept.log", "data/a.bin", "secret.env", "secret_of_success.py", "build/x.o"]
    names += ["top.txt", "deep/top.txt", "deep/a.csv", "deep/kept.csv", "deep/er/b.csv", "deep/er/build/y.o"]
    for name in names:
        _put(root, name)
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--others", "--exclude-standard", "."],
        check=True,
        capture_output=True,
        text=True,
    )
    assert archived_files(root) == sorted(listed.stdout.splitlines())
    assert "secret_of_success.py" in archived_files(root)
    assert not any("secret.env" in name for name in archived_files(root))


def test_folder_that_the_repository_ignores_is_archived(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    _put(tmp_path, ".gitignore", "scratch/\n")
    _put(tmp_path, "scratch/network.py")
    assert archived_files(tmp_path / "scratch") == ["network.py"]


def test_compiled_code_and_the_repository_itself_are_never_archived(tmp_path: Path) -> None:
    for name in (".git/config", "__pycache__/network.pyc", "sub/__pycache__/x.pyc", "network.py", "sub/old.pyc"):
        _put(tmp_path, name)
    assert archived_files(tmp_path) == ["network.py"]


def test_links_are_followed_without_cycles(tmp_path: Path) -> None:
    root, other = tmp_path / "job", tmp_path / "other"
    _put(root, "network.py")
    _put(other, "shared.py", "shared = 1\n")
    (root / "shared.py").symlink_to(other / "shared.py")
    (root / "library").symlink_to(other)
    (root / "again").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    assert archived_files(root) == ["library/shared.py", "network.py", "shared.py"]
    archive = pack(root)
    target = unpack(archive.data, archive.digest, tmp_path / "there")
    assert (target / "library" / "shared.py").read_text() == "shared = 1\n"
    assert not (target / "shared.py").is_symlink()


def test_damaged_archive_is_rejected(tmp_path: Path) -> None:
    archive = pack(_write(tmp_path / "job", network="x = 1\n"))
    other = pack(_write(tmp_path / "other", network="x = 2\n"))
    for data in (other.data, archive.data[:-9], b"not an archive"):
        with pytest.raises(UnavailableError, match="arrived damaged"):
            unpack(data, archive.digest, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_failure_to_unpack_leaves_no_files(tmp_path: Path) -> None:
    archive = pack(_write(tmp_path / "job", network="x = 1\n"))
    (tmp_path / "file").write_text("a file")
    with pytest.raises(
        UnavailableError, match=r"cannot be unpacked: .*/file/there: Not a directory; choose a directory that"
    ):
        unpack(archive.data, archive.digest, tmp_path / "file" / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "job"]


def test_only_a_full_disk_asks_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(_write(tmp_path / "job", network="x = 1\n"))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(code_archive, "_write", fail)
    with pytest.raises(UnavailableError, match=r"No space left on device; free some space"):
        unpack(archive.data, archive.digest, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_large_files_are_rejected_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_archive, "MAX_FILE_BYTES", 1 << 20)
    _put(tmp_path, "network.py")
    _put(tmp_path, "big.csv", "x" * (1 << 21))
    with pytest.raises(SpecError, match=r"more than 1 MiB.*\.gitignore; the largest so far: big\.csv \(2\.1 MB\)"):
        pack(tmp_path)
    _put(tmp_path, ".gitignore", "*.csv\n")
    assert archived_files(tmp_path) == [".gitignore", "network.py"]


def test_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such folder"):
        pack(tmp_path / "missing")
