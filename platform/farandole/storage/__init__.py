"""Directories of files, on this machine or in an object store, behind one protocol.

`open_storage` is the way in; object stores are imported when the first one is opened.
"""

from farandole.storage.base import Storage, StoredFile
from farandole.storage.factory import open_storage
from farandole.storage.local import LocalStorage
from farandole.storage.location import Location, home, is_uri, parse_location
from farandole.storage.uris import file_path, file_uri, join_location, split_location, sqlite_path, sqlite_uri

__all__ = [
    "LocalStorage",
    "Location",
    "Storage",
    "StoredFile",
    "file_path",
    "file_uri",
    "home",
    "is_uri",
    "join_location",
    "open_storage",
    "parse_location",
    "split_location",
    "sqlite_path",
    "sqlite_uri",
]
