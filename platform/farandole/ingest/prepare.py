"""Preparation of a dataset, from raw files to a dataset directory. Reads top to bottom."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pyspark.sql import SparkSession

from farandole.errors import DataError, FarandoleError, PreparationError
from farandole.events import EventHandler, Message, Progress, StageEnded, StageStarted, ignore_event
from farandole.ingest import without_spark
from farandole.ingest.cache_key import code_version, compute_cache_key
from farandole.ingest.prepared import PreparedDataset, find_manifest, is_current, missing_shards
from farandole.ingest.readers.known_columns import check_columns
from farandole.ingest.rules.malformed import exclude_malformed
from farandole.ingest.rules.pipeline import RowPipeline
from farandole.ingest.sources.files import SourceFiles, find_files, fingerprints
from farandole.ingest.sources.fingerprint import FileFingerprint
from farandole.ingest.sources.small import is_small, needs_spark
from farandole.ingest.spark.error_transport import SPARK_ERRORS
from farandole.ingest.spark.partitioning import split_counts, with_partition_columns
from farandole.ingest.spark.passes import fit_preprocessing, packed_rows, write_splits
from farandole.ingest.spark.progress import StepReporter, reported_steps
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.ingest.spark.session import scratch_directory, spark_session
from farandole.ingest.spark.source_visibility import check_source_visibility
from farandole.ingest.spark.tasks import pack_rows
from farandole.preprocess import Preprocessing, find_losses
from farandole.privacy import Secret, read_key
from farandole.shards import (
    MalformedRows,
    Manifest,
    collect_garbage,
    content_digest,
    describe_encryption,
    mark_as_recent,
    write_manifest,
)
from farandole.spec import SPLITS, Job, RowSource
from farandole.storage import Location, open_storage, parse_location


def prepare(
    job: Job,
    on_event: EventHandler = ignore_event,
    *,
    files: Mapping[str, SourceFiles] | None = None,
    cache_key: str | None = None,
    force: bool = False,
) -> PreparedDataset:
    """Make the dataset that a job describes, unless it exists already.

    Args:
        job: The job.
        on_event: Receives progress and warnings.
        files: The files of all sources, if they were found before. Default: find them.
        cache_key: The cache key, if it was computed before from the same files. Default: compute it.
        force: Prepare even if nothing changed.

    Raises:
        DataError: The sources, the query or the declared features do not fit together.
        PreparationError: Spark could not finish.
        StorageAccessError: An object store denies access to a source or to the dataset.
        StorageError: An object store does not answer.
        UnavailableError: Java is missing, or Spark does not start.
    """
    directory = parse_location(job.data.output)
    on_event(StageStarted("prepare", f"preparing {directory}"))
    if files is None:
        files = {name: find_files(name, source) for name, source in job.data.sources.items()}
    if cache_key is None:
        cache_key = compute_cache_key(job.data, files, job.folder)
    previous = find_manifest(directory)
    if previous is not None and not force and is_current(directory, previous, cache_key):
        on_event(StageEnded("prepare", f"{_format_rows(previous)} exist already, nothing has changed"))
        return PreparedDataset(directory, previous, reused=True)
    files = {name: found.fetch(on_event) for name, found in files.items()}
    check_columns(job.data, files)
    with _dataset_directory(directory):
        manifest = _prepare_without_spark(job, files, cache_key, directory, previous, on_event)
        if manifest is None:
            manifest = _prepare_with_spark(job, files, cache_key, directory, previous, on_event)
    for entry in manifest.malformed:
        if entry.rows:
            on_event(Message(_describe_excluded(entry), "warning"))
    for name in collect_garbage(directory, manifest):
        on_event(Message(f"removed {name}, which is not part of any dataset"))
    num_shards = sum(len(shards) for shards in manifest.splits.values())
    on_event(StageEnded("prepare", f"{_format_rows(manifest)} in {num_shards} shards"))
    return PreparedDataset(directory, manifest, reused=False)


def _prepare_with_spark(
    job: Job,
    files: Mapping[str, SourceFiles],
    cache_key: str,
    directory: Location,
    previous: Manifest | None,
    on_event: EventHandler,
) -> Manifest:
    on_event(Progress("prepare", 0, 0, "tasks", "starting Spark"))
    with (
        _searched(RowPipeline(job, files)) as pipeline,
        spark_session(job, is_small=is_small(files)) as session,
        reported_steps(session, on_event) as steps,
    ):
        try:
            return _prepare(session, job, files, pipeline, cache_key, directory, previous, steps)
        except SPARK_ERRORS as error:
            raise pipeline.explain_failure(error, session) from pipeline.visible_cause(error)


def _prepare_without_spark(
    job: Job,
    files: Mapping[str, SourceFiles],
    cache_key: str,
    directory: Location,
    previous: Manifest | None,
    on_event: EventHandler,
) -> Manifest | None:
    """Prepare a small dataset in this process; None, before anything is written: it is not small and simple."""
    is_running = SparkSession.getActiveSession() is not None  # as in a notebook
    if is_running or needs_spark(job.data, files):
        return None
    on_event(Progress("prepare", 0, 0, "tasks", "reading the sources"))
    secret = read_key(job.data.shard_key, "data.shards.encryption.key") if job.data.shard_key else None
    read = fingerprints(files)
    with _searched(RowPipeline(job, files)) as pipeline, tempfile.TemporaryDirectory(prefix="farandole-rows-") as made:
        scratch = Path(made)
        try:
            rows = without_spark.prepare_rows(job, files, pipeline, secret, scratch)
        except without_spark.NotPossibleError:
            return None
        except FarandoleError as error:
            raise pipeline.hide_values(error) from pipeline.visible_cause(error)
        except OSError as error:
            raise _file_error(files, scratch, directory, error) from error
        for text in rows.warnings:
            on_event(Message(text, level="warning"))
        return _complete(job, pipeline, rows, (), files, read, secret, cache_key, directory, previous)


def _prepare(
    session: SparkSession,
    job: Job,
    files: Mapping[str, SourceFiles],
    pipeline: RowPipeline,
    cache_key: str,
    directory: Location,
    previous: Manifest | None,
    steps: StepReporter,
) -> Manifest:
    data = job.data
    read = fingerprints(files)
    secret = read_key(data.shard_key, "data.shards.encryption.key") if data.shard_key else None
    check_source_visibility(session, files, data.sources)
    steps.begin("reading the sources")
    readers = SourceReaders(session, data.sources, files, data.wanted_source_types)
    try:
        malformed = _exclude_malformed(session, job, readers, directory)
    except DataError as error:
        raise pipeline.hide_values(error) from pipeline.visible_cause(error)
    frame = pipeline.rows(session, readers, steps.warn)
    pipeline.check_first_rows(frame)
    unfitted = Preprocessing.from_spec(data).with_types(dict(frame.dtypes))
    inspected = pipeline.inspected_columns(frame)
    with (
        scratch_directory(session) as scratch,
        pipeline.k_anonymous(with_partition_columns(frame, data.split)) as kept,
        packed_rows(kept, pack_rows(unfitted, inspected, scratch)) as (rows, seen),
    ):
        pipeline.check_findings(seen.detector)
        counts = split_counts(seen.split_rows, data.split)
        steps.begin("fitting the preprocessing on the training split")
        preprocessing, column_statistics = fit_preprocessing(rows, unfitted, seen.observations)
        for text in find_losses(preprocessing, seen.observations):
            steps.warn(text)
        steps.begin("writing shards")
        splits = write_splits(rows, preprocessing, counts, data.shards, directory, secret, scratch)
    prepared = without_spark.PreparedRows(preprocessing, column_statistics, splits)
    return _complete(job, pipeline, prepared, malformed, files, read, secret, cache_key, directory, previous)


def _complete(
    job: Job,
    pipeline: RowPipeline,
    rows: without_spark.PreparedRows,
    malformed: tuple[MalformedRows, ...],
    files: Mapping[str, SourceFiles],
    read: tuple[FileFingerprint, ...],
    secret: Secret | None,
    cache_key: str,
    directory: Location,
    previous: Manifest | None,
) -> Manifest:
    """Check that nothing changed meanwhile, and write the manifest, which completes the dataset."""
    data, preprocessing, splits = job.data, rows.preprocessing, rows.splits
    _check_shards_arrived(directory, missing_shards(directory, splits))
    _check_unchanged(files, read)
    digests = [digest for name in sorted(files) for digest in files[name].digests()]
    _check_unchanged(files, read)  # after the last time that a file was read
    schema, fitted = preprocessing.schema, preprocessing.to_dict()
    digest = content_digest(schema, fitted, splits)
    manifest = Manifest(
        digest=digest,
        columns=schema,
        splits=splits,
        preprocessing=fitted,
        statistics=rows.statistics,
        split_rule=data.split.model_dump(mode="json"),
        sources=tuple({**entry.to_dict(), "xxh3_128": digest} for entry, digest in zip(read, digests, strict=True)),
        malformed=malformed,
        request=cache_key,
        code_version=code_version(),
        encryption=describe_encryption(secret, data.shard_key, digest) if secret and data.shard_key else None,
        **pipeline.record.to_dict(),
    )
    try:
        if previous is not None:
            mark_as_recent(directory, previous)
        write_manifest(directory, manifest)
    except OSError as error:
        raise _disk_error(directory, error) from error
    return manifest


def _searched(pipeline: RowPipeline) -> RowPipeline:
    """Return the pipeline after the search of the sources' first rows, which should not wait for Spark."""
    pipeline.search_first_rows()
    return pipeline


def _exclude_malformed(
    session: SparkSession, job: Job, readers: SourceReaders, directory: Location
) -> tuple[MalformedRows, ...]:
    """Count, and perhaps store, the malformed records of each source that allows them."""
    excluded = []
    show_values = not job.data.privacy.protected
    for name, source in sorted(job.data.sources.items()):
        if isinstance(source, RowSource) and source.malformed != "fail":
            reader, tasks = readers.reader(name)
            excluded.append(exclude_malformed(session, name, source, reader, tasks, directory, show_values=show_values))
    return tuple(excluded)


def _describe_excluded(entry: MalformedRows) -> str:
    reasons = ", ".join(
        f"{found['reason']}{' in ' + found['column'] if found['column'] else ''} {found['rows']:,}"
        for found in entry.reasons
    )
    where = f"; they are stored in {entry.quarantine.file}" if entry.quarantine else ""
    total = entry.read + entry.rows
    return f"{entry.rows:,} of {total:,} rows of {entry.source} could not be read and were left out ({reasons}){where}"


def _check_shards_arrived(directory: Location, missing: list[str]) -> None:
    if missing:
        raise PreparationError(
            f"data.output: {missing[0]} was written by a Spark executor, but {directory} on this machine does not have"
            " it; give all executors and this machine the same directory, or use data.master local[*]"
        )


def _check_unchanged(files: Mapping[str, SourceFiles], read: tuple[FileFingerprint, ...]) -> None:
    """Check that the sources have the fingerprints that they had before they were read."""
    with suppress(OSError):  # a file is gone
        if fingerprints(files) == read:
            return
    raise DataError("data.sources: files changed while they were read; prepare again when nothing writes to them")


@contextmanager
def _dataset_directory(directory: Location) -> Iterator[None]:
    """Create the dataset directory; if the block fails, remove it again, provided that it is new and empty."""
    is_new = isinstance(directory, Path) and not directory.exists()
    try:
        open_storage(directory).create()
    except OSError as error:
        raise _disk_error(directory, error) from error
    try:
        yield
    except BaseException:
        if is_new and isinstance(directory, Path):
            for folder in (*(directory / split for split in SPLITS), directory):
                with suppress(OSError):  # it is not empty, or does not exist
                    folder.rmdir()
        raise


def _file_error(files: Mapping[str, SourceFiles], scratch: Path, directory: Location, error: OSError) -> FarandoleError:
    """Return the error about a file of the sources, of the scratch directory, or else of the dataset directory."""
    path = Path(str(error.filename))
    if any(path in found.paths for found in files.values()):
        return DataError(f"{path}: cannot be read ({error.strerror}); write the file again")
    if path.is_relative_to(scratch):
        return PreparationError(f"{path}: {error.strerror or error}; set TMPDIR to a directory that you may write to")
    return _disk_error(directory, error)


def _disk_error(directory: Location, error: OSError) -> PreparationError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space" if is_full else "choose a directory that you may write to"
    return PreparationError(f"data.output: {directory}: {error.strerror or error}; {remedy}")


def _format_rows(manifest: Manifest) -> str:
    return ", ".join(f"{rows:,} {split}" for split, rows in manifest.row_counts.items()) + " rows"
