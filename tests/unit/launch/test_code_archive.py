"""Packages are the same wherever they are made, hold what git would keep, and arrive whole or not at all."""

from __future__ import annotations

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
    """Files by name, with `__` for `/`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _put(root: Path, name: str, text: str = "x") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_folder_arrives_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "job"
    _put(root, "network.py", "def build(): ...\n")
    _put(root, "deep/er/ä ö.txt", "ß")
    _put(root, "tool.sh", "#!/bin/sh\n")
    (root / "tool.sh").chmod(0o700)
    package = pack(root)
    there = unpack(package.data, package.digest, tmp_path / "there" / package.digest)
    assert sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()) == [
        "deep/er/ä ö.txt",
        "network.py",
        "tool.sh",
    ]
    assert (there / "network.py").read_text() == "def build(): ...\n"
    assert os.access(there / "tool.sh", os.X_OK)
    assert not os.access(there / "network.py", os.X_OK)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}\.py", fullmatch=True), st.binary(max_size=200), max_size=6
    )
)
def test_equal_files_give_equal_bytes(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    packages = []
    for names in (sorted(files), sorted(files, reverse=True)):
        root = tmp_path_factory.mktemp("folder")
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[name])
            os.utime(path, (number, number))
        packages.append(pack(root))
    assert packages[0] == packages[1]
    assert packages[0].digest == hashlib.sha256(gzip.decompress(packages[0].data)).hexdigest()


def test_what_git_ignores_stays_at_home_and_git_agrees(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git to compare with")
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


def test_a_folder_that_the_repository_ignores_travels_all_the_same(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    _put(tmp_path, ".gitignore", "scratch/\n")
    _put(tmp_path, "scratch/network.py")
    assert archived_files(tmp_path / "scratch") == ["network.py"]


def test_compiled_code_and_the_repository_itself_never_travel(tmp_path: Path) -> None:
    for name in (".git/config", "__pycache__/network.pyc", "sub/__pycache__/x.pyc", "network.py", "sub/old.pyc"):
        _put(tmp_path, name)
    assert archived_files(tmp_path) == ["network.py"]


def test_links_are_followed_and_end(tmp_path: Path) -> None:
    root, other = tmp_path / "job", tmp_path / "other"
    _put(root, "network.py")
    _put(other, "shared.py", "shared = 1\n")
    (root / "shared.py").symlink_to(other / "shared.py")
    (root / "library").symlink_to(other)
    (root / "again").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    assert archived_files(root) == ["library/shared.py", "network.py", "shared.py"]
    package = pack(root)
    there = unpack(package.data, package.digest, tmp_path / "there")
    assert (there / "library" / "shared.py").read_text() == "shared = 1\n"
    assert not (there / "shared.py").is_symlink()


def test_damage_on_the_way_is_seen(tmp_path: Path) -> None:
    package = pack(_write(tmp_path / "job", network="x = 1\n"))
    other = pack(_write(tmp_path / "other", network="x = 2\n"))
    for data in (other.data, package.data[:-9], b"nothing of the kind"):
        with pytest.raises(UnavailableError, match="arrived damaged"):
            unpack(data, package.digest, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_disk_that_takes_nothing_leaves_nothing(tmp_path: Path) -> None:
    package = pack(_write(tmp_path / "job", network="x = 1\n"))
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(UnavailableError, match=r"cannot be unpacked .*free some space"):
        unpack(package.data, package.digest, tmp_path / "file" / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "job"]


def test_data_beside_the_code_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_archive, "MAX_FILE_BYTES", 1 << 20)
    _put(tmp_path, "network.py")
    _put(tmp_path, "big.csv", "x" * (1 << 21))
    with pytest.raises(SpecError, match=r"more than 1 MiB.*\.gitignore; the largest so far: big\.csv \(2\.1 MB\)"):
        pack(tmp_path)
    _put(tmp_path, ".gitignore", "*.csv\n")
    assert archived_files(tmp_path) == [".gitignore", "network.py"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such folder"):
        pack(tmp_path / "missing")
