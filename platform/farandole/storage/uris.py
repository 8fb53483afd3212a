"""URIs of paths, and paths of URIs. A path may hold any character, and most of them mean something else in a URI."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_SQLITE = ("sqlite:///", "sqlite+pysqlite:///")


def file_uri(path: str | Path) -> str:
    """Return the `file://` URI of a path."""
    return Path(path).absolute().as_uri()


def file_path(uri: str) -> Path:
    """Return the path of a `file:` URI."""
    return Path(unquote(urlsplit(uri).path))


def sqlite_uri(path: str | Path) -> str:
    """Return SQLAlchemy's URI of a SQLite file.

    The driver is named where the path needs escapes: MLflow would otherwise create a second folder, named like the
    escaped one.
    """
    plain = str(Path(path).absolute())
    escaped = quote(plain)
    return _SQLITE[plain != escaped] + escaped


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite database; None for the URI of anything else."""
    for prefix in _SQLITE:
        if uri.startswith(prefix):
            return Path(unquote(uri.removeprefix(prefix).partition("?")[0]))
    return None


def join_location(location: str, *names: str) -> str:
    """Return a location below another one, a path or a URI, whose options stay at its end.

    Args:
        location: A path, or a URI such as `s3://bucket/folder?region=eu-west-1`.
        names: Names of folders and of a file, as they are in a path.
    """
    if "://" not in location:
        return str(Path(location, *names))
    address, mark, options = location.partition("?")
    return "/".join([address.rstrip("/"), *map(quote, names)]) + mark + options


def split_location(location: str) -> tuple[str, str]:
    """Return the folder of a location, whose options stay at its end, and the name in the folder."""
    if "://" not in location:
        folder, _, name = location.rpartition("/")
        return folder, name
    address, mark, options = location.partition("?")
    folder, _, name = address.rstrip("/").rpartition("/")
    return folder + mark + options, unquote(name)
