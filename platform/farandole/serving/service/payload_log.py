"""The payload log: rows and predictions as Parquet files, after the job's privacy policies.

Policies are applied when a batch is handed over; nothing that they remove is kept in memory for longer, or written.
Files have temporary names until they are complete.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from farandole.bundle import Bundle
from farandole.errors import UserError
from farandole.privacy.policies import Protection
from farandole.process.atomic import atomic_file

if TYPE_CHECKING:
    from farandole.serving.service.logs import JsonLog

_ROWS = 50_000
_SECONDS = 60.0
_MAX_FILES = 4
"""Files that wait for a slow disk; the rows of further ones are counted and left out."""


@dataclass
class _Open:
    """Batches that were not written yet."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    since_s: float = 0.0


class PayloadLog:
    """Log of one worker.

    Args:
        directory: The folder, created if it is missing.
        executor: Where files are written.
        log: Receives errors.
        rows: Rows after which a file is written.
        seconds: Age at which a file is written.
    """

    def __init__(
        self, directory: Path, executor: Executor, log: JsonLog, *, rows: int = _ROWS, seconds: float = _SECONDS
    ) -> None:
        self._directory, self._executor, self._log = directory, executor, log
        self._max_rows, self._max_s = rows, seconds
        self._open: dict[tuple[str, str], _Open] = {}
        self._files = self._waiting_files = self._lost = 0
        self._lock = threading.Lock()

    def add(
        self,
        model: str,
        version: str,
        protection: Protection,
        batch: pa.RecordBatch,
        predictions: Mapping[str, np.ndarray],
    ) -> None:
        """Take the rows of a batch."""
        row_batch = _joined(protection.apply(batch), predictions)
        with self._lock:
            entry = self._open.setdefault((model, version), _Open(since_s=time.monotonic()))
            entry.batches.append(row_batch)
            entry.rows += batch.num_rows
            if entry.rows >= self._max_rows:
                self._write(model, version)

    def write_old(self) -> None:
        """Write what has waited for long enough; call it now and then."""
        with self._lock:
            for (model, version), entry in list(self._open.items()):
                if time.monotonic() - entry.since_s >= self._max_s:
                    self._write(model, version)

    def close(self) -> None:
        """Write everything."""
        with self._lock:
            for model, version in list(self._open):
                self._write(model, version)

    def _write(self, model: str, version: str) -> None:
        entry = self._open.pop((model, version))
        if self._waiting_files >= _MAX_FILES:
            self._lost += entry.rows
            return
        self._waiting_files += 1
        self._files += 1
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = self._directory / model / version / f"{stamp}-{os.getpid()}-{self._files:06d}.parquet"
        self._executor.submit(self._write_file, path, entry.batches)

    def _write_file(self, path: Path, batches: list[pa.RecordBatch]) -> None:
        import pyarrow.parquet as pq

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as draft:
                pq.write_table(pa.Table.from_batches(batches), draft, compression="zstd")
        except (OSError, pa.ArrowException) as error:
            self._lost += sum(batch.num_rows for batch in batches)
            self._log.write("payload_log_failed", level="error", error=str(error), lost_rows=self._lost)
        finally:
            self._waiting_files -= 1


def _joined(batch: pa.RecordBatch, predictions: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: batch.column(name) for name in batch.schema.names}
    moment = pa.scalar(time.time_ns() // 1000, pa.timestamp("us", "UTC"))
    columns["prediction_time"] = pa.array([moment.as_py()] * batch.num_rows, moment.type)
    for name, values in predictions.items():
        columns[name if name not in batch.schema.names else f"predicted_{name}"] = (
            pa.array(values.tolist(), pa.string()) if values.dtype == object else pa.array(values)
        )
    return pa.record_batch(columns)


def protection_of(bundle: Bundle) -> Protection:
    """Return the privacy policies of the job that trained a model.

    Raises:
        UserError: The bundle does not hold them, or their key is missing.
    """
    from farandole.privacy.keys import read_key
    from farandole.spec import Privacy

    try:
        privacy = Privacy.model_validate(bundle.read_json("lineage.json")["job"]["data"].get("privacy") or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{bundle.path}: lineage.json does not hold the job's privacy policies, so that rows cannot be logged;"
            " leave out --payload-log, or train the model again"
        ) from error
    return Protection(privacy.columns, read_key(privacy.key, "data.privacy.key") if privacy.key else None)
