"""From a location to its storage."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from farandole.storage.base import Storage
from farandole.storage.local import LocalStorage
from farandole.storage.location import Location, is_uri
from farandole.storage.uris import file_path


def open_storage(location: Location) -> Storage:
    """Return the storage of a directory.

    Args:
        location: A path, or a URI (`s3://bucket/folder`, or any other that pyarrow knows).

    Raises:
        StorageAccessError: The URI cannot be used.
    """
    if isinstance(location, Path) or not is_uri(location):
        return LocalStorage(Path(location))
    if urlsplit(location).scheme == "file":
        return LocalStorage(file_path(location))
    from farandole.storage.object_store import ObjectStorage  # takes a second to import that local data need not pay

    return ObjectStorage(location)
