"""Rates and daily quotas that all workers of a service share: a table in a memory-mapped file, under a file lock.

A row of the table is a caller: its token bucket and the rows of the present day. The table is a set-associative cache:
a caller's row is one of 16, chosen by the hash of its id, and the row that was unused for longest is given to a new
caller. The file has its full size from the start, because writing to a mapped page without space on the disk behind it
kills the process. It survives a restart of the service, so a restart does not renew the quotas.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
import time
from pathlib import Path

from farandole.errors import UserError, explain_os_error
from farandole.process.locks import RepeatedLock
from farandole.serving.access.callers import AccessDenied, Caller

_WAYS = 16
_SETS = 1024
_ROW = struct.Struct("<16sddqq")
"""Digest of the caller's id; tokens; monotonic time of the last request in seconds; day since 1970; its rows."""
_SIZE = _WAYS * _SETS * _ROW.size
_DAY_S = 86400
_FILE = "limits-v1.bin"
_LOCK = "limits.lock"


class Limits:
    """The shared table.

    Args:
        directory: The access directory, which exists.

    Raises:
        UserError: The file cannot be created.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / _FILE
        try:
            self._lock = RepeatedLock(directory / _LOCK)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _SIZE)
                self._table = mmap.mmap(descriptor, _SIZE)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UserError(explain_os_error(error, path)) from error
        self._offsets: dict[str, tuple[bytes, int]] = {}

    def take_request(self, caller: Caller) -> None:
        """Take a token from the caller's bucket.

        Raises:
            AccessDenied: The bucket is empty (429).
        """
        rate = caller.rate
        if rate is None:
            return
        with self._lock:
            now_s = time.monotonic()
            offset, tokens, used_s, day, rows = self._read(caller.id)
            elapsed_s = now_s - used_s
            fresh = elapsed_s < 0.0 or used_s == 0.0  # the monotonic clock starts again at a boot
            tokens = float(rate.count) if fresh else min(rate.count, max(tokens, 0.0) + elapsed_s * rate.per_second)
            allowed = tokens >= 1.0
            self._write(offset, caller.id, tokens - 1.0 if allowed else tokens, now_s, day, rows)
        if not allowed:
            wait_s = max(1, math.ceil((1.0 - tokens) / rate.per_second))
            raise AccessDenied(
                429, "rate_limited", f"The limit is {rate} requests.", retry_after_s=wait_s, caller=caller
            )

    def take_rows(self, caller: Caller, num_rows: int) -> None:
        """Charge rows to the caller's quota of the present day (UTC); a request beyond it is refused whole.

        Raises:
            AccessDenied: Fewer rows are left (429), or the quota is smaller than the request (413).
        """
        quota = caller.daily_rows
        if quota is None:
            return
        if num_rows > quota:
            message = f"The request has {num_rows} rows, and the daily quota is {quota} rows; send fewer."
            raise AccessDenied(413, "quota_too_small", message, caller=caller)
        wall_s = time.time()
        today = int(wall_s // _DAY_S)
        with self._lock:
            offset, tokens, used_s, day, rows = self._read(caller.id)
            rows = rows if day == today else 0
            allowed = rows + num_rows <= quota
            if allowed:
                self._write(offset, caller.id, tokens, used_s, today, rows + num_rows)
        if not allowed:
            message = f"{max(0, quota - rows)} of {quota} rows are left until midnight (UTC)."
            wait_s = math.ceil((today + 1) * _DAY_S - wall_s)
            raise AccessDenied(429, "quota_exhausted", message, retry_after_s=wait_s, caller=caller)

    def give_back_rows(self, caller: Caller, num_rows: int) -> None:
        """Return rows to the quota: the service failed, and the caller got no predictions for them."""
        if caller.daily_rows is None:
            return
        with self._lock:
            offset, tokens, used_s, day, rows = self._read(caller.id)
            self._write(offset, caller.id, tokens, used_s, day, max(0, rows - num_rows))

    def rows_today(self, caller: Caller) -> int:
        """Return the rows that were charged to a caller today."""
        with self._lock:
            _, _, _, day, rows = self._read(caller.id)
        return rows if day == int(time.time() // _DAY_S) else 0

    def close(self) -> None:
        """Close the table."""
        self._table.close()
        self._lock.close()

    def _read(self, caller_id: str) -> tuple[int, float, float, int, int]:
        """Return offset and content of a caller's row; the content is zero where the row is new."""
        digest, offset = self._offsets.get(caller_id) or self._find(caller_id)
        found, tokens, used_s, day, rows = _ROW.unpack_from(self._table, offset)
        if found != digest:  # not yet a row, or another worker gave it to another caller
            digest, offset = self._find(caller_id)
            found, tokens, used_s, day, rows = _ROW.unpack_from(self._table, offset)
        return (offset, tokens, used_s, day, rows) if found == digest else (offset, 0.0, 0.0, 0, 0)

    def _find(self, caller_id: str) -> tuple[bytes, int]:
        """Return the digest of a caller and the offset of its row, or of the row that it replaces."""
        digest = hashlib.sha256(caller_id.encode()).digest()[:16]
        first = int.from_bytes(digest[:4], "little") % _SETS * _WAYS
        oldest, oldest_key = 0, (math.inf, math.inf)
        for way in range(first, first + _WAYS):
            offset = way * _ROW.size
            found, _, used_s, day, _ = _ROW.unpack_from(self._table, offset)
            if found == digest:
                break
            if (day, used_s) < oldest_key:
                oldest, oldest_key = offset, (day, used_s)
        else:
            offset = oldest
        if len(self._offsets) > _SETS * _WAYS:
            self._offsets.clear()
        self._offsets[caller_id] = digest, offset
        return digest, offset

    def _write(self, offset: int, caller_id: str, tokens: float, used_s: float, day: int, rows: int) -> None:
        _ROW.pack_into(self._table, offset, self._offsets[caller_id][0], tokens, used_s, day, rows)
