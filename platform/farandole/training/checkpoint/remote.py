"""Checkpoints behind a URI: prefixes of an object store, each marked whole by its last object."""

from __future__ import annotations

from typing import Any, cast

from farandole.storage import Location, open_storage
from farandole.storage.object_store import ObjectStorage
from farandole.training.checkpoint.backends import readable, sort_newest_first, unused_name
from farandole.training.checkpoint.format import (
    META_FILE,
    STATE_FILE,
    decode_meta,
    encode_meta,
    read_state,
    write_state,
)


class ObjectStoreBackend:
    """Checkpoints under prefixes of a store."""

    def __init__(self, place: Location) -> None:
        self._storage = cast(ObjectStorage, open_storage(place))

    def shown(self, name: str) -> str:
        """The URI, without options."""
        return self._storage.display_path(name)

    def names(self) -> list[str]:
        """All prefixes that are marked whole."""
        return sort_newest_first([name for name, files in self._prefixes().items() if META_FILE in files])

    def meta(self, name: str) -> dict[str, Any]:
        """The content of `meta.json`."""
        return decode_meta(readable(lambda: self._storage.read(f"{name}/{META_FILE}")))

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """The content of `state.pt`, by way of a local copy."""

        def read() -> dict[str, Any]:
            with self._storage.as_local_file(f"{name}/{STATE_FILE}") as path:
                return read_state(path, meta["files"][STATE_FILE])

        return cast(dict[str, Any], readable(read))

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Draft the state in a local place, upload it, and then its mark."""
        name = unused_name(meta["step"], set(self._prefixes()))
        draft = self._storage.draft(STATE_FILE)
        try:
            described = write_state(draft, state)
            self._storage.publish(draft, f"{name}/{STATE_FILE}")
        finally:
            draft.unlink(missing_ok=True)
        self._storage.write(f"{name}/{META_FILE}", encode_meta({**meta, "files": {STATE_FILE: described}}))
        return name

    def remove(self, name: str) -> None:
        """The mark first: from then on it is not listed."""
        for file in (META_FILE, STATE_FILE):
            self._storage.remove(f"{name}/{file}")

    def tidy(self) -> None:
        """Remove prefixes without a mark; and see, before hours are spent, whether the bucket is there and open."""
        self._storage.create()
        for name, files in self._prefixes().items():
            if META_FILE not in files and sort_newest_first([name]):
                self.remove(name)

    def _prefixes(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for file in self._storage.list_tree(""):
            name, _, rest = file.name.partition("/")
            found.setdefault(name, set()).add(rest)
        return found
