"""API keys: made once, stored as keyed hashes in one file, and looked up by their id.

A key is `fdl_ID_SECRET`: 12 hexadecimal digits that identify it, and 64 that are 256 random bits. Scanners of source
code can find it by its prefix. A random key of this length needs no slow password hash: HMAC-SHA-256 under the server's
secret makes a stolen file worthless, and costs two microseconds.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import threading
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from farandole.errors import UserError, closest_match, explain_os_error
from farandole.process.atomic import write_atomic
from farandole.process.locks import Lock, wait_for_lock
from farandole.process.messages import MessageError, decode_fields
from farandole.serving.access.allowances import parse_rate
from farandole.serving.access.callers import SCOPES, Caller, Scope
from farandole.serving.access.server_secret import ServerSecret

PREFIX = "fdl_"
"""The beginning of every key."""

KEYS_VARIABLE = "FARANDOLE_ACCESS_KEYS_FILE"
"""The environment variable with the path of the file with the keys, such as a mounted Secret of Kubernetes; without it,
the file is in the access directory."""

FORMAT_VERSION = 1

_NAME = re.compile(r"[\w.@:+-][\w .@:+-]{0,63}")
_ID = slice(len(PREFIX), len(PREFIX) + 12)
_NO_KEY = bytes(len(PREFIX) + 12 + 1 + 64)
_NO_HASH = "0" * 64
_FILE = "keys.json"
_LOCK = "keys.lock"


@dataclass(frozen=True)
class KeyRecord:
    """Facts about a key; the key itself is not kept.

    Args:
        id: 12 hexadecimal digits.
        name: What people call it; unique among the keys that are not revoked.
        hash: HMAC-SHA-256 of the key, in hexadecimal.
        scopes: What it permits.
        created: When it was made, ISO 8601 in UTC.
        expires: Until when it is valid; None: for ever.
        revoked: Since when it is not valid; None: it is.
        rate: Limit of requests, `10/s`; None: no limit.
        daily_rows: Limit of rows in a day (UTC); None: no limit.
    """

    id: str
    name: str
    hash: str
    scopes: list[str]
    created: str
    expires: str | None = None
    revoked: str | None = None
    rate: str | None = None
    daily_rows: int | None = None

    @property
    def is_expired(self) -> bool:
        """Return whether the key's time has passed."""
        return self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(UTC)

    @property
    def state(self) -> str:
        """Return `valid`, `expired` or `revoked`."""
        return "revoked" if self.revoked else "expired" if self.is_expired else "valid"

    def public(self) -> dict[str, object]:
        """Return what may be displayed: everything but the hash."""
        return {**{name: value for name, value in asdict(self).items() if name != "hash"}, "state": self.state}


class KeyStore:
    """The keys of an access directory.

    Args:
        directory: The access directory.
        secret: The server's secret; None: keys can be listed and revoked, but neither made nor checked.
    """

    def __init__(self, directory: Path, secret: ServerSecret | None = None) -> None:
        named = os.environ.get(KEYS_VARIABLE)
        self._path = Path(named).expanduser() if named else directory / _FILE
        self._lock_path = self._path.with_name(_LOCK)
        self._hash_key = secret.derive("api keys") if secret else None

    @property
    def path(self) -> Path:
        """The file with the records."""
        return self._path

    def records(self) -> list[KeyRecord]:
        """Return the records of all keys, the oldest first.

        Raises:
            UserError: The file cannot be read, or is damaged.
        """
        try:
            return decode_records(self._path.read_bytes(), self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(explain_os_error(error, self._path)) from error

    def create(
        self,
        name: str,
        scopes: list[Scope],
        *,
        expires: datetime | None = None,
        rate: str | None = None,
        daily_rows: int | None = None,
    ) -> tuple[str, KeyRecord]:
        """Make a key.

        Returns:
            The key, which nothing can show again, and its record.

        Raises:
            UserError: The name cannot be used, a valid key has it already, or the file cannot be written.
        """
        if not _NAME.fullmatch(name) or re.fullmatch("[0-9a-f]{12}", name):
            raise UserError(
                f"--name: {name!r}: a name has at most 64 letters, digits and . @ : + - _, and does not look like an id"
            )
        key_id = secrets.token_hex(6)
        key = f"{PREFIX}{key_id}_{secrets.token_hex(32)}"
        record = KeyRecord(
            key_id,
            name,
            self.hash(key),
            sorted(set(scopes), key=SCOPES.index),
            created=_timestamp(datetime.now(UTC)),
            expires=_timestamp(expires) if expires else None,
            rate=rate,
            daily_rows=daily_rows,
        )
        with self._lock():
            records = self.records()
            if any(each.name == name and not each.revoked for each in records):
                raise UserError(f"--name: {name}: a key has this name already; revoke it first, or choose another name")
            self._write([*records, record])
        return key, record

    def revoke(self, id_or_name: str) -> KeyRecord:
        """Make a key invalid from now on. A key that is revoked already stays as it is.

        Raises:
            UserError: No key has this id or name, or the file cannot be written.
        """
        with self._lock() if self._path.exists() else nullcontext():
            records = self.records()
            # A name can be used again after a key was revoked: the newest one is meant.
            matches = [number for number, each in enumerate(records) if id_or_name in (each.id, each.name)]
            if not matches:
                known = [text for each in records for text in (each.id, each.name)]
                close = closest_match(id_or_name, known)
                hint = f"did you mean {close}?" if close else "`farandole keys list` shows the keys"
                raise UserError(f"{id_or_name}: no key has this id or name; {hint}")
            record = records[matches[-1]]
            if record.revoked is None:
                record = replace(record, revoked=_timestamp(datetime.now(UTC)))
                records[matches[-1]] = record
                self._write(records)
        return record

    def hash(self, key: str) -> str:
        """Return the keyed hash of a key, in hexadecimal."""
        assert self._hash_key is not None
        return hmac.digest(self._hash_key, key.encode(), "sha256").hex()

    def _lock(self) -> Lock:
        try:
            return wait_for_lock(self._lock_path)
        except OSError as error:
            raise UserError(explain_os_error(error, self._lock_path)) from error

    def _write(self, records: list[KeyRecord]) -> None:
        document = {"format_version": FORMAT_VERSION, "keys": [asdict(record) for record in records]}
        try:
            write_atomic(self._path, json.dumps(document, indent=1) + "\n", durable=True, mode=0o600)
        except OSError as error:
            raise UserError(explain_os_error(error, self._path)) from error


@dataclass(frozen=True)
class KnownKey:
    """A key's record as the service needs it for each request.

    Args:
        record: The record.
        caller: The caller that it identifies.
        expires_s: Until when it is valid, in seconds since 1970.
    """

    record: KeyRecord
    caller: Caller
    expires_s: float


class KeyCache:
    """The keys in memory, read again as soon as their file is another one: a revoked key stops working at once.

    The file that was read stays open, so that its inode number is not given to a later version of it.

    Args:
        store: Where the keys are.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._keys: dict[str, KnownKey] = {}
        self._found: dict[str, bytes] = {}
        """Keys that were found in this version of the file, by id."""
        self._version: tuple[int, ...] | None = None
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def find(self, key: str) -> KnownKey | None:
        """Return what is known about a key; None if it is not one of these keys. `refresh` first.

        Takes the same time for an unknown id as for a wrong secret. A key that was found is remembered until the file
        changes: comparing it takes less time than hashing it.
        """
        keys, found = self._keys, self._found  # of one version of the file, whatever other threads do
        key_id, presented = key[_ID], key.encode()
        known = keys.get(key_id)
        if hmac.compare_digest(presented, found.get(key_id, _NO_KEY)):
            return known
        expected = known.record.hash if known else _NO_HASH
        if not hmac.compare_digest(self._store.hash(key), expected):
            return None
        found[key_id] = presented
        return known

    def refresh(self) -> None:
        """Read the file again if it has changed.

        Raises:
            UserError: The file cannot be read, or is damaged.
        """
        try:
            version = _version(os.stat(self._store.path))
        except FileNotFoundError:
            version = None
        except OSError as error:
            raise UserError(explain_os_error(error, self._store.path)) from error
        if version != self._version:
            with self._lock:
                self._read()

    def _read(self) -> None:
        path = self._store.path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.close()
            self._keys, self._found, self._version = {}, {}, None
            return
        except OSError as error:
            raise UserError(explain_os_error(error, path)) from error
        try:
            version = _version(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                records = decode_records(file.read(), path)
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._keys, self._found = {record.id: _known(record) for record in records}, {}
        self._version, self._descriptor = version, descriptor

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def decode_records(content: bytes, path: Path) -> list[KeyRecord]:
    """Return the records that a file contains.

    Raises:
        UserError: The content is not a document of this format.
    """
    try:
        document = json.loads(content)
        version = document["format_version"]
        if version == FORMAT_VERSION:
            records = [decode_fields(KeyRecord, each) for each in document["keys"]]
            for record in records:
                _known(record)
            return records
    except (ValueError, KeyError, TypeError, MessageError, UserError) as error:
        raise UserError(f"{path}: is damaged; restore it from a backup, or remove it and make new keys") from error
    raise UserError(
        f"{path}: has format version {version}, and this version of Farandole reads {FORMAT_VERSION}; use the version"
        " that wrote it"
    )


def _known(record: KeyRecord) -> KnownKey:
    scopes: frozenset[Scope] = frozenset(scope for scope in SCOPES if scope in record.scopes)
    rate = parse_rate(record.rate, f"the key {record.id}: rate") if record.rate else None
    expires_s = datetime.fromisoformat(record.expires).timestamp() if record.expires else float("inf")
    return KnownKey(record, Caller(f"key:{record.id}", record.name, scopes, rate, record.daily_rows), expires_s)


def _version(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
