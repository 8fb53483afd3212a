"""Checkpoints behind a URI: prefixes of an object store, each marked whole by its last object."""

from __future__ import annotations

from typing import Any, cast

from farandole.shards.remote import RemoteStorage
from farandole.shards.storage import Place, storage_of
from farandole.training.checkpoint.files import META, STATE, decoded_meta, encoded_meta, read_state, write_state
from farandole.training.checkpoint.stores import free_name, newest_first, readable


class RemoteStore:
    """Checkpoints under prefixes of a store."""

    def __init__(self, place: Place) -> None:
        self._storage = cast(RemoteStorage, storage_of(place))

    def shown(self, name: str) -> str:
        """The URI, without options."""
        return self._storage.shown(name)

    def names(self) -> list[str]:
        """All prefixes that are marked whole."""
        return newest_first([name for name, files in self._prefixes().items() if META in files])

    def meta(self, name: str) -> dict[str, Any]:
        """The content of `meta.json`."""
        return decoded_meta(readable(lambda: self._storage.read(f"{name}/{META}")))

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """The content of `state.pt`, by way of a local copy."""

        def read() -> dict[str, Any]:
            with self._storage.fetched(f"{name}/{STATE}") as path:
                return read_state(path, meta["files"][STATE])

        return cast(dict[str, Any], readable(read))

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Draft the state in a local place, upload it, and then its mark."""
        name = free_name(meta["step"], set(self._prefixes()))
        draft = self._storage.draft(STATE)
        try:
            described = write_state(draft, state)
            self._storage.publish(draft, f"{name}/{STATE}")
        finally:
            draft.unlink(missing_ok=True)
        self._storage.write(f"{name}/{META}", encoded_meta({**meta, "files": {STATE: described}}))
        return name

    def remove(self, name: str) -> None:
        """The mark first: from then on it is not listed."""
        for file in (META, STATE):
            self._storage.remove(f"{name}/{file}")

    def tidy(self) -> None:
        """Remove prefixes without a mark; and see, before hours are spent, whether the bucket is there and open."""
        self._storage.create()
        for name, files in self._prefixes().items():
            if META not in files and newest_first([name]):
                self.remove(name)

    def _prefixes(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for file in self._storage.tree(""):
            name, _, rest = file.name.partition("/")
            found.setdefault(name, set()).add(rest)
        return found
