"""Comparison of a translated query with Spark's result on rows of the source, to the bit."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from farandole.errors import DataError
from farandole.serving.query.translate import Translation, translate_both
from farandole.serving.query.translated import QueryRows, TranslatedQuery, UntranslatableError
from farandole.spec import Job

ROWS = 10_000
_NAN = "NaN"


def translate_compared(job: Job, columns: Sequence[str] | None = None, *, rows: int = ROWS) -> TranslatedQuery:
    """Translate the query of a job for predictions, and compare it with Spark.

    Args:
        job: The job, whose features are resolved.
        columns: The columns of the query's result that the model needs. Default: those of its features.
        rows: The number of rows of the source to compare; fewer if it has fewer.

    Raises:
        UntranslatableError: The query cannot travel, or a value, a type, a missing value or an excluded row differs.
        DataError: A source cannot be read, or Spark fails on one of the rows.
        UnavailableError: Spark or the engine is missing.
    """
    translation, reader = translate_both(job, columns)
    compare(job, translation, reader.sample(rows))
    return translation.query


def compare(job: Job, translation: Translation, sample: pa.Table) -> None:
    """Compare both forms of a translated query with Spark's result.

    Args:
        job: The job.
        translation: The translated query.
        sample: Rows of the source.

    Raises:
        UntranslatableError: There is a difference.
    """
    from farandole.ingest.spark.on_demand import run_query

    try:
        full, prediction = translation.full.apply(sample), translation.query.apply(sample)
    except DataError as error:
        raise UntranslatableError(f"data.query: the translated query fails where Spark's may not ({error})") from error
    tables = {translation.full.source: sample, **translation.lookups}
    spark, kinds = run_query(job, tables, translation.types)
    outputs = translation.full.outputs
    for name, kind in outputs.items():
        if kinds[name] != kind:
            raise UntranslatableError(f"data.query: column {name} is {kinds[name]} in Spark and {kind} in DuckDB")
    show_values = not job.data.privacy.protected
    _check_same(full, canonical_rows(spark.select(list(outputs))), list(outputs), show_values=show_values)
    _check_prediction(full, prediction)


def _check_same(full: QueryRows, spark: list[tuple[Any, ...]], names: list[str], *, show_values: bool) -> None:
    found = canonical_rows(full.columns)
    extra, missing = Counter(found) - Counter(spark), Counter(spark) - Counter(found)
    if not extra and not missing:
        return
    if not extra:
        raise UntranslatableError(f"data.query: {missing.total()} rows of Spark's result are missing in DuckDB's")
    position = next(index for index, row in enumerate(found) if row in extra)
    row = found[position]
    where = f"data.query: of {len(found)} compared rows {extra.total()} differ; row {full.rows[position]} of the sample"
    if not missing:
        raise UntranslatableError(f"{where} is excluded by Spark and not by DuckDB")
    closest = max(missing, key=lambda other: sum(a == b for a, b in zip(row, other, strict=True)))
    differing = [index for index, (a, b) in enumerate(zip(row, closest, strict=True)) if a != b]
    shown = ", ".join(_describe(names[index], row[index], closest[index], show_values) for index in differing[:3])
    raise UntranslatableError(f"{where}: {shown}")


def _describe(name: str, found: Any, wanted: Any, show_values: bool) -> str:
    return f"{name} is {_shown(found)} in DuckDB and {_shown(wanted)} in Spark" if show_values else f"{name} differs"


def _shown(value: Any) -> str:
    number = struct.unpack("<d", value)[0] if isinstance(value, bytes) and len(value) == 8 else value
    return repr(number)[:60]


def _check_prediction(full: QueryRows, prediction: QueryRows) -> None:
    """Check that the form for predictions gives the same values for the rows that the whole query keeps."""
    positions = {row: position for position, row in enumerate(prediction.rows.tolist())}
    chosen = [positions.get(row, -1) for row in full.rows.tolist()]
    if -1 in chosen:
        raise UntranslatableError("data.query: the form for predictions excludes rows that the job's query keeps")
    same = prediction.columns.take(pa.array(chosen, pa.int64()))
    if canonical_rows(same) != canonical_rows(full.columns):
        raise UntranslatableError("data.query: the form for predictions gives other values than the job's query")


def canonical_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return rows whose equality is equality to the bit: floating-point numbers as bytes, of which all NaN are one."""
    columns = [_canonical(table.column(index)) for index in range(table.num_columns)]
    return list(zip(*columns, strict=True)) if columns else []


def _canonical(values: pa.ChunkedArray) -> list[Any]:
    return [_frozen(value) for value in values.to_pylist()]


def _frozen(value: Any) -> Any:
    if isinstance(value, float):
        return _NAN if value != value else struct.pack("<d", value)
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, Mapping):
        return tuple((name, _frozen(part)) for name, part in value.items())
    return value
