"""Measurement of all systems that write with one Spark session: `python -m benchmarks.ingest.writers REQUEST`.

It also runs in the interpreter of the peers, for MosaicML's `dataframe_to_mds`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.dataset as pads

from benchmarks.ingest.flights import flights_job
from benchmarks.loader.peers import stub_torchvision
from farandole.ingest.readers.csv_headers import check_header
from farandole.ingest.sources.files import find_files
from farandole.ingest.spark.dataframes import needed_columns, query_frame
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.ingest.spark.session import cached, spark_session
from farandole.preprocess import Preprocessing
from farandole.shards import LABEL, read_manifest, verify
from farandole.spec import CsvSource, Job

_SAMPLE_S = 0.2
ABOUT = {
    "farandole": "prepare(), complete: read, assign, fit, shuffle, sort, transform, write, checksums, fsync, manifest",
    "parquet": "Spark's write.parquet of the transformed rows, from the CSV on: the same strict reader, the same query,"
    " the same transforms (fitted before, which is not timed) by mapInArrow, one column for each feature",
    "parquet_spark": "the same, but the CSV is read by Spark's own reader, which checks less",
    "parquet_cached": "Spark's write.parquet of the transformed rows alone: they are cached in its memory before the"
    " clock starts",
    "parquet_raw": "Spark's write.parquet of the rows of the query, from the CSV on, not transformed",
    "mds": "MosaicML's dataframe_to_mds of the transformed rows, uncompressed",
}
"""Description of each system."""
_PACKAGES = {"farandole": "farandole", "mds": "mosaicml-streaming"}
"""Package whose version is reported; for all other systems it is Spark."""


def main() -> None:
    """Execute the request; print a JSON document, and nothing else, on standard output."""
    request = json.loads(sys.argv[1])
    result_file = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        result = _measure(request)
    json.dump(result, result_file)
    result_file.flush()


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    """Start Spark, let each system write the rows of `warm_up`, and then time each system in turn."""
    scratch = Path(request["directory"])
    known = Path(request["dataset"])
    memory = request["memory"]
    runs: dict[str, list[dict[str, float]]] = {system: [] for system in request["systems"]}
    if "mds" in runs:
        stub_torchvision(scratch.with_name("stubs"))  # before Spark starts, so that its workers inherit the path
    start = time.perf_counter()
    warm_up = flights_job(Path(request["warm_up"]), known, memory)
    with spark_session(warm_up) as session:
        start_s = time.perf_counter() - start
        for system in runs:
            _timed(system, session, warm_up, scratch, known)
        for _ in range(request["repeats"]):
            for system, found in runs.items():
                job = flights_job(Path(request["source"]), known, memory)
                found.append(_timed(system, session, job, scratch, known))
    descriptions = {
        system: {"version": version(_PACKAGES.get(system, "pyspark")), "about": ABOUT[system]} for system in runs
    }
    return {"start_s": start_s, "runs": runs, "descriptions": descriptions}


def _timed(system: str, session: Any, job: Job, scratch: Path, known: Path) -> dict[str, float]:
    """Time one run of one system that writes to an empty directory."""
    output = known if system == "farandole" else scratch / system
    shutil.rmtree(output, ignore_errors=True)
    with _WRITERS[system](session, job, output) as write, _peak_memory() as peak:
        start, start_cpu_s = time.perf_counter(), _processor_s()
        write()
        seconds, cpu_s = time.perf_counter() - start, _processor_s() - start_cpu_s
    start = time.perf_counter()
    if system == "farandole":
        assert not verify(output)
    verify_s = time.perf_counter() - start
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    figures = {
        "rows": _rows_in(output),
        "seconds": seconds,
        "cpu_s": cpu_s,
        "written_mb": size / 1e6,
        "peak_rss_mb": max(peak),
    }
    return figures | ({"verify_s": verify_s} if system == "farandole" else {})


def _rows_in(output: Path) -> int:
    """Return the number of rows in the written files."""
    if (output / "manifest.json").exists():
        return sum(read_manifest(output).row_counts.values())
    if (output / "index.json").exists():
        index = json.loads((output / "index.json").read_text(encoding="utf-8"))
        return sum(shard["samples"] for shard in index["shards"])
    rows: int = pads.dataset(output, format="parquet").count_rows()
    return rows


@contextlib.contextmanager
def _prepare(session: Any, job: Job, output: Path) -> Iterator[Callable[[], Any]]:
    from farandole.ingest.prepare import prepare

    yield lambda: prepare(job, force=True)


@contextlib.contextmanager
def _parquet(session: Any, job: Job, output: Path) -> Iterator[Callable[[], Any]]:
    yield lambda: _transformed(_raw(session, job), job).write.parquet(str(output))


@contextlib.contextmanager
def _parquet_spark(session: Any, job: Job, output: Path) -> Iterator[Callable[[], Any]]:
    yield lambda: _transformed(_raw_by_spark(session, job), job).write.parquet(str(output))


@contextlib.contextmanager
def _parquet_cached(session: Any, job: Job, output: Path) -> Iterator[Callable[[], Any]]:
    with cached(_transformed(_raw(session, job), job)) as frame:
        frame.count()
        yield lambda: frame.write.parquet(str(output))


@contextlib.contextmanager
def _parquet_raw(session: Any, job: Job, output: Path) -> Iterator[Callable[[], Any]]:
    yield lambda: _raw(session, job).write.parquet(str(output))


@contextlib.contextmanager
def _mds(session: Any, job: Job, output: Path) -> Iterator[Callable[[], Any]]:
    from streaming.base.converters import dataframe_to_mds

    def write() -> None:
        kinds = {"float": "float32", "int": "int32"}
        frame = _transformed(_raw(session, job), job)
        columns = {name: kinds[kind] for name, kind in frame.dtypes}
        dataframe_to_mds(frame, mds_kwargs={"out": str(output), "columns": columns, "compression": None})

    yield write


_WRITERS: dict[str, Callable[[Any, Job, Path], contextlib.AbstractContextManager[Callable[[], Any]]]] = {
    "farandole": _prepare,
    "parquet": _parquet,
    "parquet_spark": _parquet_spark,
    "parquet_cached": _parquet_cached,
    "parquet_raw": _parquet_raw,
    "mds": _mds,
}
"""Preparation of each system, which is not timed; it yields the function that is timed."""


def _raw(session: Any, job: Job) -> Any:
    """Return the input of the preparation: the rows of the query, with the columns that the dataset needs."""
    own = _own_session(session)
    files = {name: find_files(name, source).fetch() for name, source in job.data.sources.items()}
    return needed_columns(query_frame(own, job.data, SourceReaders(own, job.data.sources, files)), _needed(job))


def _raw_by_spark(session: Any, job: Job) -> Any:
    """Return the same rows, read by Spark's own CSV reader."""
    own = _own_session(session)
    assert job.data.query is not None
    for name, source in job.data.sources.items():
        assert isinstance(source, CsvSource)
        kinds = source.columns or {}
        header = check_header(name, source, find_files(name, source).fetch())
        schema = ", ".join(f"`{column}` {kinds.get(column, 'string')}" for column in header)
        reader = own.read.schema(schema).options(header=True, mode="FAILFAST", nullValue=source.null_values[0])
        reader.csv(source.path).createOrReplaceTempView(name)
    return needed_columns(own.sql(job.data.query), _needed(job))


def _own_session(session: Any) -> Any:
    own = session.newSession()
    own.conf.set("spark.sql.session.timeZone", "UTC")
    return own


def _needed(job: Job) -> dict[str, str]:
    """Return the raw columns of features and label."""
    assert job.data.label is not None
    return dict.fromkeys([*Preprocessing.from_spec(job.data).columns, job.data.label.column], "")


def _transformed(rows: Any, job: Job) -> Any:
    """Return the rows as models see them, one column per feature, with the preprocessing that Farandole fitted."""
    preprocessing = Preprocessing.from_dict(read_manifest(job.data.output).preprocessing)
    schema = preprocessing.schema
    kinds = {"float32": "float", "int32": "int"}
    columns = [(feature, kinds[str(group.dtype)]) for group in schema.groups for feature in group.features]
    ddl = ", ".join(f"`{name}` {kind}" for name, kind in [*columns, (LABEL, "int")])
    return rows.mapInArrow(_flat(preprocessing), ddl)


def _flat(preprocessing: Preprocessing) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def transform(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        groups = preprocessing.schema.groups
        for batch in batches:
            rows = preprocessing.rows(batch)
            columns = {
                feature: pa.array(rows[group.name][:, number].copy())
                for group in groups
                for number, feature in enumerate(group.features)
            }
            yield pa.record_batch(columns | {LABEL: pa.array(rows[LABEL])})

    return transform


def _processor_s() -> float:
    """Return the processor seconds of this process and all its descendants (Java, Python workers)."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # the process has ended
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Sample the resident memory in MB of this process and all its descendants (Java, Python workers)."""
    seen: list[float] = [0.0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_S):
            total = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                with contextlib.suppress(psutil.Error):  # the process has ended
                    total += process.memory_info().rss
            seen.append(total / 1e6)

    thread = threading.Thread(target=sample, name="farandole-bench-memory", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
