"""Archive of a job's folder, which travels with the job to machines that share no file system with this one.

An archive is a gzip-compressed tar file of regular files, sorted, without times, owners or other traces of its origin.
Its digest is the SHA-256 of the tar file before compression, so it does not depend on the version of zlib.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pathspec

from farandole.errors import SpecError, UnavailableError, explain_os_error
from farandole.process.atomic import atomic_directory

MAX_FILE_BYTES = 128 << 20
"""Maximum total size of the files of a folder: code travels, data does not."""
_NEVER = (".git", "__pycache__", "*.pyc", ".ipynb_checkpoints", ".DS_Store")
"""Files that no other machine can use, whether or not a `.gitignore` lists them."""
_GITIGNORE = ".gitignore"
_SHOWN = 3


@dataclass(frozen=True)
class CodeArchive:
    """Archive of a folder.

    Args:
        digest: SHA-256 of the tar file before compression, in hexadecimal digits.
        data: The compressed tar file.
    """

    digest: str
    data: bytes


def pack(folder: str | Path) -> CodeArchive:
    """Pack a folder without the files that git would ignore; the same files always give the same bytes.

    `.gitignore` files have the same effect as in git: those in the folder and below it, and those above it in the same
    repository. Links are followed and their targets are packed; dangling links are left out.

    Args:
        folder: The folder.

    Raises:
        SpecError: The folder does not exist, a file in it cannot be read, or it holds more than `MAX_FILE_BYTES`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SpecError(f"folder: {root}: no such folder; give the one with the job's own modules")
    files = archived_files(root)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in files:
            content, executable = _read(root / name)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if executable else 0o644
            tar.addfile(entry, io.BytesIO(content))
    raw = archive.getvalue()
    return CodeArchive(hashlib.sha256(raw).hexdigest(), gzip.compress(raw, compresslevel=6, mtime=0))


def unpack(data: bytes, digest: str, directory: str | Path) -> Path:
    """Unpack an archive into a directory, which appears as a whole; an existing directory is kept as it is.

    Args:
        data: The bytes of the archive.
        digest: The expected digest.
        directory: The directory; its name should contain the digest.

    Returns:
        The directory.

    Raises:
        UnavailableError: The bytes do not match the digest, or cannot be written to disk.
    """
    target = Path(directory)
    raw = _checked(data, digest)
    if target.is_dir():
        return target
    try:
        # Another process may be faster, with the same content.
        with atomic_directory(target, exist_ok=True) as draft, tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            for entry in tar:
                _write(tar, entry, draft)
    except OSError as error:
        raise UnavailableError(f"the job's folder cannot be unpacked: {explain_os_error(error, target)}") from error
    return target


def archived_files(root: Path) -> list[str]:
    """Return the sorted names of the files of a folder that are archived, with `/` between their parts.

    Raises:
        SpecError: They hold more than `MAX_FILE_BYTES`.
    """
    sizes: dict[str, int] = {}
    total = 0
    for name in _walk(root, root, "", _rules_above(root), ()):
        sizes[name] = (root / name).stat().st_size
        total += sizes[name]
        if total > MAX_FILE_BYTES:
            largest = sorted(sizes, key=lambda known: -sizes[known])[:_SHOWN]
            shown = ", ".join(f"{known} ({sizes[known] / 1e6:,.1f} MB)" for known in largest)
            raise SpecError(
                f"folder: {root}: its files hold more than {MAX_FILE_BYTES >> 20} MiB, and the folder is sent with"
                f" the job; list files other than code in {root / _GITIGNORE}; the largest so far: {shown}"
            )
    return sorted(sizes)


@dataclass(frozen=True)
class _Rules:
    """One `.gitignore`.

    Args:
        prefix: Path between it and the packed folder: to add to a name if the file is above the folder, and to remove
            from a name if it is below.
        above: Whether it is above the folder.
        spec: Its patterns.
    """

    prefix: str
    above: bool
    spec: pathspec.GitIgnoreSpec

    def verdict(self, name: str) -> bool | None:
        """Return whether a file, or a folder (its name ends with `/`), is ignored; None if no pattern matches."""
        relative = self.prefix + name if self.above else name.removeprefix(self.prefix)
        return self.spec.check_file(relative).include


def _walk(root: Path, folder: Path, prefix: str, rules: tuple[_Rules, ...], parents: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of files relative to the root."""
    real = os.path.realpath(folder)
    if real in parents:  # a link to a parent
        return
    own = _rules_in(folder, prefix, above=False)
    rules = (*rules, own) if own else rules
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir():
            if not _left_out(name + "/", rules):
                yield from _walk(root, Path(entry.path), name + "/", rules, (*parents, real))
        elif entry.is_file() and not _left_out(name, rules):
            yield name


def _left_out(name: str, rules: tuple[_Rules, ...]) -> bool:
    """Return whether a file is left out; the nearest rules with a matching pattern decide, as in git."""
    bare = PurePosixPath(name)
    if any(bare.match(pattern) for pattern in _NEVER):
        return True
    verdicts = (each.verdict(name) for each in reversed(rules))
    return next((verdict for verdict in verdicts if verdict is not None), False)


def _rules_above(root: Path) -> tuple[_Rules, ...]:
    """Return the rules of the folder's repository above the folder, from the top down.

    Rules that ignore the folder itself have no effect on its content, since the user chose the folder.
    """
    top = root.absolute()
    above = []
    for parent in top.parents:
        if (parent / ".git").exists():
            above.append(parent)
            break
        above.append(parent)
    else:
        return ()
    if (top / ".git").exists():
        return ()
    found = [_rules_in(parent, top.relative_to(parent).as_posix() + "/", above=True) for parent in reversed(above)]
    rules = tuple(each for each in found if each is not None)
    return () if any(each.verdict("") for each in rules) else rules


def _rules_in(folder: Path, prefix: str, *, above: bool) -> _Rules | None:
    path = folder / _GITIGNORE
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return _Rules(prefix, above, pathspec.GitIgnoreSpec.from_lines(lines))


def _read(path: Path) -> tuple[bytes, bool]:
    try:
        return path.read_bytes(), os.access(path, os.X_OK)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> SpecError:
    return SpecError(
        f"folder: {path}: cannot be read ({error.strerror or error}), and the job's folder is sent along with the"
        f" job; change its permissions, or list it in {_GITIGNORE}"
    )


def _checked(data: bytes, digest: str) -> bytes:
    try:
        raw = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UnavailableError(f"the job's folder arrived damaged ({error}); submit the job again") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != digest:
        raise UnavailableError(
            f"the job's folder arrived damaged: its digest is {found}, expected {digest}; submit the job again"
        )
    return raw


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, directory: Path) -> None:
    parts = PurePosixPath(entry.name)
    content = tar.extractfile(entry)
    assert content is not None, f"{entry.name}: archives only hold regular files"
    assert not parts.is_absolute(), f"{entry.name}: outside of the archive"
    assert ".." not in parts.parts, f"{entry.name}: outside of the archive"
    path = directory / parts
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.read())
    path.chmod(entry.mode)
