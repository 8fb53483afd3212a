"""The data's way, from raw files to a dataset directory. Reads top to bottom."""

from __future__ import annotations

import errno
import math
import pickle
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError, PreparationError
from farandole.events import EventHandler, Message, Progress, StageEnded, StageStarted, ignore_event
from farandole.ingest.cache_key import code_version, compute_cache_key
from farandole.ingest.prepared import PreparedDataset, find_manifest, is_current, missing_shards
from farandole.ingest.rules.malformed import exclude_malformed
from farandole.ingest.rules.pipeline import RowPipeline
from farandole.ingest.sources.files import SourceFiles, find_files, fingerprints
from farandole.ingest.spark.partitioning import WIDE_ROW, narrow_rows, split_counts, with_partition_columns
from farandole.ingest.spark.row_frames import make_reader
from farandole.ingest.spark.session import batches_by_rows, cached, scratch_directory, spark_session
from farandole.ingest.spark.source_visibility import check_source_visibility
from farandole.ingest.spark.tasks import (
    OBSERVED,
    PACKED,
    PIECES,
    WRITTEN,
    BatchFunction,
    PassStatistics,
    ShardPosition,
    deal_to_shards,
    observe_rows,
    pack_rows,
    write_shards,
)
from farandole.ingest.spark.worker_environment import environment_file
from farandole.preprocess import Observations, Preprocessing, learn, statistics
from farandole.privacy import Secret, read_key
from farandole.shards import (
    MalformedRows,
    Manifest,
    Schema,
    ShardInfo,
    collect_garbage,
    content_digest,
    describe_encryption,
    mark_as_recent,
    write_manifest,
)
from farandole.spec import SPLITS, Data, Job, RowSource
from farandole.storage import Location, open_storage, parse_location

_MIB = 2**20
_LITTLE_BYTES = 16 * _MIB
_POLL_S = 0.2


def prepare(job: Job, on_event: EventHandler = ignore_event, *, force: bool = False) -> PreparedDataset:
    """Make the dataset that the job describes, unless it is there already.

    Args:
        job: The job.
        on_event: Is told of each step.
        force: Prepare even if nothing changed.

    Raises:
        DataError: The sources, the query or the declared features do not fit together.
        PreparationFailed: Spark could not finish.
        StorageRefused: An object store will not give a source or take the dataset.
        StorageFailed: An object store does not answer.
        EnvironmentLacking: There is no Java, or Spark does not start.
    """
    directory = parse_location(job.data.output)
    on_event(StageStarted("prepare", f"preparing {directory}"))
    files = {name: find_files(name, source, on_event=on_event) for name, source in job.data.sources.items()}
    code = code_version()
    request = compute_cache_key(job.data, files, code, job.folder)
    previous = find_manifest(directory)
    if previous is not None and not force and is_current(directory, previous, request):
        on_event(StageEnded("prepare", f"{_rows(previous)} exist already, nothing has changed"))
        return PreparedDataset(directory, previous, reused=True)
    on_event(Progress("prepare", 0, 0, "tasks", "starting Spark"))
    with (
        _made_directory(directory),
        RowPipeline(job, files) as raw,
        spark_session(job, little=_is_little(files)) as session,
        _watched(session, on_event) as say,
    ):
        try:
            manifest = _prepare(session, job, files, raw, code, request, directory, previous, say)
        except (PySparkException, Py4JError, ConnectionError) as error:
            raise raw.explain(error, session) from raw.cause(error)
    for entry in manifest.malformed:
        if entry.rows:
            on_event(Message(_told(entry), "warning"))
    for name in collect_garbage(directory, manifest):
        on_event(Message(f"removed {name}, which no manifest refers to"))
    on_event(StageEnded("prepare", f"{_rows(manifest)} in {sum(len(s) for s in manifest.splits.values())} shards"))
    return PreparedDataset(directory, manifest, reused=False)


def _prepare(
    session: SparkSession,
    job: Job,
    files: dict[str, SourceFiles],
    raw: RowPipeline,
    code: dict[str, str],
    request: str,
    directory: Location,
    previous: Manifest | None,
    say: _Say,
) -> Manifest:
    data = job.data
    read = fingerprints(files)
    unfitted = Preprocessing.from_spec(data)
    secret = read_key(data.shard_key, "data.shards.encryption.key") if data.shard_key else None
    check_source_visibility(session, files, data.sources)
    say("reading the sources")
    try:
        malformed = _left_out(session, data, files, directory)
    except DataError as error:
        raise raw.without_values(error) from raw.cause(error)
    frame = raw.frame(session, say.warn)
    unfitted = unfitted.with_types(dict(frame.dtypes))
    looked_at = raw.looked_at(frame)
    placed = with_partition_columns(frame, data.split)
    with (
        scratch_directory(session) as folder,
        raw.kept(placed) as kept,
        _packed(kept, pack_rows(unfitted, looked_at, folder)) as (rows, seen),
    ):
        raw.judge(seen.detector)
        counts = split_counts(seen.split_rows, data.split)
        say("fitting the preprocessing on the training split")
        preprocessing, known = _fit(rows, unfitted, seen.observations)
        say("writing shards")
        splits = _write(rows, preprocessing, counts, job, directory, secret, folder)
    schema, fitted = preprocessing.schema, preprocessing.to_dict()
    digest = content_digest(schema, fitted, splits)
    manifest = Manifest(
        digest=digest,
        columns=schema,
        splits=splits,
        preprocessing=fitted,
        statistics=known,
        split_rule=data.split.model_dump(mode="json"),
        sources=tuple(_unchanged(files, read)),
        malformed=malformed,
        request=request,
        code_version=code,
        encryption=describe_encryption(secret, data.shard_key, digest) if secret and data.shard_key else None,
        **raw.recorded(),
    )
    try:
        if previous is not None:
            mark_as_recent(directory, previous)
        write_manifest(directory, manifest)
    except OSError as error:
        raise _disk_error(directory, error) from error
    return manifest


def _unchanged(files: dict[str, SourceFiles], read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fingerprints of the sources, which must still be those from before they were read."""
    try:
        if fingerprints(files) == read:
            return read
    except OSError:  # a file is gone
        pass
    raise DataError("data.sources: files changed while they were read; prepare again when they are at rest")


def _left_out(
    session: SparkSession, data: Data, files: dict[str, SourceFiles], directory: Location
) -> tuple[MalformedRows, ...]:
    """What is left out of each source that allows it."""
    left_out = []
    for name, source in sorted(data.sources.items()):
        if isinstance(source, RowSource) and source.malformed != "fail":
            reader, tasks = make_reader(session, name, source, files[name])
            shown = not data.privacy.protected
            left_out.append(exclude_malformed(session, name, source, reader, tasks, directory, show_values=shown))
    return tuple(left_out)


def _told(entry: MalformedRows) -> str:
    """What was left out of one source, in a line."""
    reasons = ", ".join(
        f"{found['reason']}{' in ' + found['column'] if found['column'] else ''} {found['rows']:,}"
        for found in entry.reasons
    )
    where = f"; they are kept in {entry.quarantine.file}" if entry.quarantine else ""
    total = entry.read + entry.rows
    return f"{entry.rows:,} of {total:,} rows of {entry.source} could not be read and were left out ({reasons}){where}"


@contextmanager
def _packed(frame: DataFrame, pack: BatchFunction) -> Iterator[tuple[DataFrame, PassStatistics]]:
    """The packed rows of a frame, kept for the length of the block, and what was seen of them."""
    narrow = narrow_rows(frame)
    if narrow is not None:
        with ExitStack() as stack:
            try:
                with batches_by_rows(frame.sparkSession):
                    packed = stack.enter_context(cached(narrow.mapInArrow(pack, PACKED)))
                    seen = _seen(packed.where("seen IS NOT NULL"))
            except PySparkException as error:
                if WIDE_ROW not in str(error):
                    raise
            else:
                yield packed.where("rows IS NOT NULL").select("rows"), seen
                return
    with cached(frame.mapInArrow(pack, PACKED)) as packed:
        yield packed.where("rows IS NOT NULL").select("rows"), _seen(packed.where("seen IS NOT NULL"))


def _seen(found: DataFrame) -> PassStatistics:
    """What all partitions saw together."""
    seen = PassStatistics()
    for row in found.select("seen").collect():
        seen.merge(pickle.loads(row["seen"]))
    return seen


def _fit(
    rows: DataFrame, preprocessing: Preprocessing, seen: Observations
) -> tuple[Preprocessing, dict[str, dict[str, Any]]]:
    """The fitted preprocessing, and the statistics of the columns that the first pass looked at.

    Args:
        rows: The packed rows.
        preprocessing: The preprocessing, not fitted.
        seen: What the first pass saw, while it packed the rows.
    """
    known: dict[str, dict[str, Any]] = {}
    while not preprocessing.fitted:
        known = statistics(preprocessing, seen) | known
        preprocessing = learn(preprocessing, seen)
        if not preprocessing.fitted:
            seen = _seen(rows.mapInArrow(observe_rows(preprocessing), OBSERVED)).observations
    return preprocessing, dict(sorted(known.items()))


def _write(
    packed: DataFrame,
    preprocessing: Preprocessing,
    counts: list[int],
    job: Job,
    directory: Location,
    secret: Secret | None,
    folder: Path | None,
) -> dict[str, tuple[ShardInfo, ...]]:
    """Write all shards; only those that Spark's kept attempts report count.

    Args:
        packed: The packed rows.
        preprocessing: The preprocessing, fitted.
        counts: The rows of each split.
        job: The job.
        directory: The dataset directory.
        secret: The key to encrypt shards with.
        folder: For what tasks hand to each other, where all run on this machine.
    """
    schema: Schema = preprocessing.schema
    shard_rows = max(1, int(job.data.shards.size_mib * _MIB) // schema.row_bytes)
    block_rows = max(1, int(job.data.shards.block_mib * _MIB) // schema.row_bytes)
    shards_of_split = [math.ceil(preprocessing.num_rows(count) / shard_rows) for count in counts]
    places = [
        ShardPosition(split, index) for split, num in zip(SPLITS, shards_of_split, strict=True) for index in range(num)
    ]
    pieces = packed.mapInArrow(deal_to_shards(preprocessing, shards_of_split, folder), PIECES)
    # repartitionById sends a row to exactly the partition that its id names (Spark 4.1).
    by_shard = pieces.repartitionById(len(places), F.col("shard"))
    with environment_file(directory) as environment:
        write = write_shards(preprocessing, directory, places, block_rows, secret, environment)
        written = by_shard.mapInArrow(write, WRITTEN).collect()
    infos = {row["shard"]: ShardInfo.model_validate_json(row["info"]) for row in written}
    splits: dict[str, tuple[ShardInfo, ...]] = dict.fromkeys(SPLITS, ())
    for number in sorted(infos):
        splits[places[number].split] += (infos[number],)
    found = [sum(row["raw_rows"] for row in written if places[row["shard"]].split == split) for split in SPLITS]
    if found != counts:
        raise PreparationError(
            f"data: {sum(counts)} rows were read and {sum(found)} written; the sources changed meanwhile, or the query"
            " gives other rows each time: prepare again"
        )
    missing = missing_shards(directory, splits)
    if missing:
        raise PreparationError(
            f"data.output: {missing[0]} was written by a Spark executor and is not here; give all executors and this"
            " machine the same directory, or use data.master local[*]"
        )
    return splits


@contextmanager
def _made_directory(directory: Location) -> Iterator[None]:
    """Make the dataset directory; if the block fails, none that is new and empty stays behind."""
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
                with suppress(OSError):  # it is not empty, or not there
                    folder.rmdir()
        raise


def _disk_error(directory: Location, error: OSError) -> PreparationError:
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose a directory you may write to"
    return PreparationError(f"data.output: {directory}: {error.strerror or error}; {remedy}")


def _is_little(files: dict[str, SourceFiles]) -> bool:
    return sum(int(entry["bytes"]) for entry in fingerprints(files)) <= _LITTLE_BYTES


def _rows(manifest: Manifest) -> str:
    return ", ".join(f"{rows:,} {split}" for split, rows in manifest.row_counts.items()) + " rows"


class _Say:
    """Passes on what Spark is busy with: the step, and how many of its tasks are done."""

    def __init__(self, session: SparkSession, on_event: EventHandler) -> None:
        self._tracker = session.sparkContext.statusTracker()
        self._watch = on_event
        self._text = ""
        self.ended = threading.Event()

    def __call__(self, text: str) -> None:
        self._text = text
        self._watch(Progress("prepare", 0, 0, "tasks", text))

    def warn(self, text: str) -> None:
        self._watch(Message(text, level="warning"))

    def poll(self) -> None:
        last = (0, 0)
        while not self.ended.wait(_POLL_S):
            try:
                stages = [self._tracker.getStageInfo(stage) for stage in self._tracker.getActiveStageIds()]
            except (PySparkException, Py4JError, OSError):
                return  # Spark is ending
            now = (
                sum(stage.numCompletedTasks for stage in stages if stage),
                sum(stage.numTasks for stage in stages if stage),
            )
            if now != last and now[1]:
                self._watch(Progress("prepare", *now, "tasks", self._text))
            last = now


@contextmanager
def _watched(session: SparkSession, on_event: EventHandler) -> Iterator[_Say]:
    say = _Say(session, on_event)
    thread = threading.Thread(target=say.poll, name="farandole-spark-progress", daemon=True)
    thread.start()
    try:
        yield say
    finally:
        say.ended.set()
        thread.join()
