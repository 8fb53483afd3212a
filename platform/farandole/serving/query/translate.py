"""Translation of a job's query, once, when its model is exported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from farandole.preprocess import find_forms
from farandole.serving.query.relations import FlatQuery, Join, flatten, key_condition, sources_of
from farandole.serving.query.source_rows import SourceReader
from farandole.serving.query.translated import ROW_NUMBER, ROWS, TranslatedQuery, UntranslatableError
from farandole.serving.query.types import Base, Typed, cast_to
from farandole.spec import Job
from farandole.spec.feature_groups import raw_column

MAX_LOOKUP_BYTES = 64 << 20
"""Memory of a lookup source that a model may carry."""


@dataclass(frozen=True)
class Translation:
    """The translated query of a job, in two forms.

    Args:
        query: The form for predictions.
        full: The form with all conditions of the job's query, which gives the rows that Spark gives.
        lookups: Lookup source to all of its rows.
        types: Source to column to its Spark type.
    """

    query: TranslatedQuery
    full: TranslatedQuery
    lookups: Mapping[str, pa.Table]
    types: Mapping[str, Mapping[str, str]]


def translate(job: Job, columns: Sequence[str] | None = None) -> TranslatedQuery:
    """Translate the query of a job for predictions, without a comparison; see `translate_compared`."""
    return translate_both(job, columns)[0].query


def translate_both(job: Job, columns: Sequence[str] | None = None) -> tuple[Translation, SourceReader]:
    """Translate the query of a job, whose features are resolved.

    The label is what a caller wants to know. So the form for predictions has neither its column nor the conditions that
    concern it alone (`WHERE arr_delay IS NOT NULL`), and needs no column of the source that only these use.

    Args:
        job: The job.
        columns: The columns of the query's result that the model needs. Default: those of its features.

    Returns:
        The translation, and the reader of the source of rows.

    Raises:
        UntranslatableError: The query cannot travel; the text says why.
        DataError: A lookup source cannot be read.
    """
    try:
        tree = _check(job)
        readers = _readers(job, tree)
        rows = max(readers, key=lambda name: (readers[name].bytes, name))  # lookup sources are smaller
        types = {name: dict(reader.types) for name, reader in readers.items()}
        read = {name: partial(reader.table, MAX_LOOKUP_BYTES) for name, reader in readers.items()}
        return translate_tables(job, columns, types, rows, read), readers[rows]
    except UntranslatableError as error:
        raise UntranslatableError(f"data.query: {error}") from None


def translate_tables(
    job: Job,
    columns: Sequence[str] | None,
    types: Mapping[str, Mapping[str, str]],
    rows: str,
    read: Mapping[str, Callable[[], pa.Table]],
) -> Translation:
    """Translate the query of a job whose sources are open.

    Args:
        job: The job.
        columns: The columns of the query's result that the model needs. Default: those of its features.
        types: Source to column to its Spark type.
        rows: The source of rows.
        read: Source to the function that returns all of its rows.

    Raises:
        UntranslatableError: The query cannot travel.
    """
    data, tree = job.data, _check(job)
    needed = list(columns or dict.fromkeys(raw_column(name, feature) for name, feature in data.features.items()))
    protected = sorted(set(needed) & set(data.privacy.protected))
    if protected:
        raise UntranslatableError(
            f"data.privacy changes {protected[0]} after the query, so rows are needed as the query leaves them"
        )
    flat = flatten(tree, rows, types)
    missing = [name for name in needed if name not in flat.columns]
    if missing:
        raise UntranslatableError(f"it gives no column {missing[0]}")
    lookups = {name: read[name]() for name in dict.fromkeys(join.source for join in flat.joins)}
    for join in flat.joins:
        _check_unique(join, lookups[join.source])
    label = data.label.column if data.label is not None else None
    both = (_build(flat, needed, lookups, part) for part in (_label_only(flat, needed, label), frozenset[Base]()))
    source = {rows: data.sources[rows]}
    query, full = (replace(built, forms=find_forms(source, built.columns)) for built in both)
    return Translation(query, full, lookups, types)


def _check(job: Job) -> exp.Expression:
    """Return the parsed query of a job whose rows depend on nothing else."""
    if job.data.query is None:
        raise UntranslatableError("there is none, so the rows of the source are those of the model")
    if job.data.transform is not None:
        raise UntranslatableError("data.transform changes its rows by Python code for Spark, which cannot travel")
    return _parse(job.data.query)


def _parse(query: str) -> exp.Expression:
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        strings = [token for token in sqlglot.tokenize(query, read="spark") if token.token_type.name == "STRING"]
        if any(second.start == first.end + 1 for first, second in pairwise(strings)):
            raise UntranslatableError("a doubled quote inside a text is not translated; write \\' instead of ''")
        trees = [tree for tree in sqlglot.parse(query, read="spark") if tree is not None]
    except (SqlglotError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UntranslatableError(f"cannot be parsed ({reason})") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Expression):
        raise UntranslatableError(f"it has {len(trees)} statements")
    return trees[0]


def _readers(job: Job, tree: exp.Expression) -> dict[str, SourceReader]:
    """Return the readers of the sources that a query names."""
    folded = {name.lower(): name for name in job.data.sources}
    named = [folded[name.lower()] for name in sources_of(tree) if name.lower() in folded]
    if not named:
        raise UntranslatableError("it names no source")
    for name in named:
        if job.data.sources[name].format == "images":
            raise UntranslatableError(f"{name} is a folder of images, whose files are not rows")
    return {name: SourceReader(job, name) for name in dict.fromkeys(named)}


def _check_unique(join: Join, table: pa.Table) -> None:
    """Check that a row matches at most one row of a lookup source."""
    keys = list(dict.fromkeys(column for column, _ in join.keys))
    chosen = table.select(keys)
    for key in keys:
        chosen = chosen.filter(pc.is_valid(chosen.column(key)))
    counts = chosen.group_by(keys).aggregate([([], "count_all")]).column("count_all")
    most = pc.max(counts).as_py() or 0
    if most > 1:
        raise UntranslatableError(
            f"{join.source} has up to {most} rows with the same {', '.join(keys)}, so a row would become several"
        )


def _label_only(flat: FlatQuery, needed: Iterable[str], label: str | None) -> frozenset[Base]:
    """Return the columns of sources that the label is made from, and no feature and no join."""
    if label is None or label not in flat.columns or label in needed or not (flat.conditions or flat.joins):
        return frozenset()
    used = [flat.columns[name]().bases for name in needed] + [join.bases for join in flat.joins]
    return flat.columns[label]().bases - frozenset[Base]().union(*used)


def _build(
    flat: FlatQuery, needed: Sequence[str], lookups: Mapping[str, pa.Table], label_only: frozenset[Base]
) -> TranslatedQuery:
    """Make the statement that gives the needed columns.

    Args:
        flat: The query.
        needed: Columns of its result.
        lookups: Lookup source to its rows.
        label_only: The columns of sources whose values a caller does not know.
    """
    values = {name: flat.columns[name]() for name in needed}
    conditions, left_out = _conditions(flat, label_only)
    joins = _needed_joins(flat, [*values.values(), *conditions], label_only)
    select = exp.Select()
    for index, value in enumerate(values.values()):
        select.append("expressions", exp.alias_(cast_to(value.node, value.kind), f"o{index}"))
    select.append("expressions", exp.column(ROW_NUMBER, table=ROWS))
    select.set("from_", exp.From(this=exp.to_table(ROWS)))
    for join in joins:
        on = key_condition(join, flat.types[join.source])
        select.append("joins", exp.Join(this=exp.to_table(join.table), side=None if join.inner else "LEFT", on=on))
    if conditions:
        select.set("where", exp.Where(this=exp.and_(*(value.node.copy() for value in conditions), copy=False)))
    used = _used_columns(select)
    kinds = flat.types[flat.source]
    aliases = {name: f"c{index}" for index, name in enumerate(kinds) if f"c{index}" in used.get(ROWS, ())}
    return TranslatedQuery(
        sql=select.sql("duckdb", pretty=True),
        source=flat.source,
        columns={name: kinds[name] for name in aliases},
        aliases=aliases,
        forms={},
        outputs={name: value.kind for name, value in values.items()},
        lookups={join.table: _columns(lookups[join.source], used.get(join.table, set())) for join in joins},
        left_out=left_out,
        inexact=tuple(sorted(frozenset[str]().union(*(value.inexact for value in [*values.values(), *conditions])))),
    )


def _conditions(flat: FlatQuery, label_only: frozenset[Base]) -> tuple[list[Typed], tuple[str, ...]]:
    """Return the conditions that hold for rows without a label, and the text of the others."""
    kept, left_out = [], []
    for text, thunk in flat.conditions:
        condition = thunk()
        if condition.bases and condition.bases <= label_only:
            left_out.append(text)
        elif condition.bases & label_only:
            columns = ", ".join(sorted(column for _, column in condition.bases & label_only))
            raise UntranslatableError(
                f"the condition {text[:80]} compares other columns with {columns}, which a caller does not know,"
                " because only the label is made from it; separate the conditions by AND"
            )
        else:
            kept.append(condition)
    return kept, tuple(left_out)


def _needed_joins(flat: FlatQuery, values: Iterable[Typed], label_only: frozenset[Base]) -> list[Join]:
    """Return the joins that a result depends on: outer joins whose columns it uses, and inner joins.

    An inner join is left out if the label is made from its columns and nothing else is.
    """
    used = {str(column.table) for value in values for column in value.node.find_all(exp.Column)}
    needed: list[Join] = []
    for join in reversed(flat.joins):
        of_label = any(source == join.source for source, _ in label_only)
        if join.table in used or (join.inner and not of_label):
            needed.insert(0, join)
            used |= {str(column.table) for _, value in join.keys for column in value.node.find_all(exp.Column)}
    return needed


def _used_columns(select: exp.Select) -> dict[str, set[str]]:
    used: dict[str, set[str]] = {}
    for column in select.find_all(exp.Column):
        used.setdefault(str(column.table), set()).add(str(column.name))
    return used


def _columns(table: pa.Table, used: set[str]) -> pa.Table:
    """Return the used columns of a lookup table under their names in the statement."""
    chosen = [(f"c{index}", table.column(index)) for index in range(table.num_columns) if f"c{index}" in used]
    plain = [(name, _plain_times(values)) for name, values in chosen]
    return pa.table([values for _, values in plain], names=[name for name, _ in plain])


def _plain_times(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.timestamp("us")) if pa.types.is_timestamp(values.type) else values
