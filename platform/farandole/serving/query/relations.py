"""Translation of a query over one source of rows and small lookup sources to one flat SELECT of DuckDB.

Subqueries and common table expressions are written into the expressions that use them, and a column is translated when
something needs it: what only the label or the split is made from need not have an equivalent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from farandole.serving.query.expressions import Translator
from farandole.serving.query.translated import ROWS, UntranslatableError
from farandole.serving.query.types import Base, Typed, widen

_REFUSED = {
    "group": "GROUP BY aggregates rows, and a caller sends some of them alone",
    "having": "HAVING aggregates rows, and a caller sends some of them alone",
    "distinct": "`distinct` compares rows with each other, and a caller sends some of them alone",
    "order": "ORDER BY sorts rows, and each prediction belongs to the row of its position",
    "sort": "SORT BY sorts rows, and each prediction belongs to the row of its position",
    "cluster": "CLUSTER BY sorts rows, and each prediction belongs to the row of its position",
    "distribute": "`distribute by` distributes rows",
    "limit": "LIMIT takes some rows of all, and a caller sends some of them alone",
    "offset": "OFFSET takes some rows of all, and a caller sends some of them alone",
    "laterals": "LATERAL VIEW makes several rows of one",
    "qualify": "QUALIFY compares rows with each other",
    "pivots": "PIVOT aggregates rows",
    "sample": "a sample takes other rows each time",
    "match": "`match_recognize` compares rows with each other",
}
_SELECT_PARTS = {"expressions", "from_", "joins", "where", "with_", "kind", "hint", "windows"}
Thunk = Callable[[], Typed]


@dataclass
class Relation:
    """The columns of a table, a subquery or a joined part of a query.

    Args:
        name: The name by which expressions refer to it.
        columns: Column to the function that returns its expression.
    """

    name: str
    columns: dict[str, Thunk]


@dataclass
class Join:
    """A lookup source that is joined to the rows.

    Args:
        table: Its name in DuckDB.
        source: Its name in the job.
        keys: Pairs of a lookup column and the expression that it equals.
        inner: Whether rows without a match are excluded.
    """

    table: str
    source: str
    keys: list[tuple[str, Typed]]
    inner: bool

    @property
    def bases(self) -> frozenset[Base]:
        """The columns of other sources that decide about a match."""
        return frozenset[Base]().union(*(value.bases for _, value in self.keys))


@dataclass
class FlatQuery:
    """A query in its flat form.

    Args:
        source: The source of the rows.
        types: Source to column to its Spark type.
        joins: The lookups, in order.
        conditions: Text and expression of the conditions of its WHERE clauses, one for each part between ANDs.
        columns: Result column to the function that returns its expression.
    """

    source: str
    types: Mapping[str, Mapping[str, str]]
    joins: list[Join] = field(default_factory=list)
    conditions: list[tuple[str, Thunk]] = field(default_factory=list)
    columns: dict[str, Thunk] = field(default_factory=dict)


def flatten(tree: exp.Expression, source: str, types: Mapping[str, Mapping[str, str]]) -> FlatQuery:
    """Return the flat form of a query.

    Args:
        tree: The query, parsed in Spark's dialect.
        source: The source of the rows.
        types: Source to column to its Spark type, of all sources.

    Raises:
        UntranslatableError: It is not row by row over one source.
    """
    return _Flattener(source, types).flatten(tree)


def sources_of(tree: exp.Expression) -> list[str]:
    """Return the tables that a query names and does not define, in the order of the text."""
    defined = {cte.alias for cte in tree.find_all(exp.CTE)}
    named = [str(table.name) for table in tree.find_all(exp.Table)]
    inner = {name for cte in tree.find_all(exp.CTE) for name in (str(t.name) for t in cte.find_all(exp.Table))}
    return list(dict.fromkeys(name for name in named if name not in defined or name in inner))


class _Flattener:
    def __init__(self, source: str, types: Mapping[str, Mapping[str, str]]) -> None:
        self._query = FlatQuery(source, types)
        self._used = False
        names = [name for columns in types.values() for name in columns]
        # As in a session of the preparation, which distinguishes case only where names differ in nothing else.
        sets = (set(names), set(types))
        self._exact = any(len({name.lower() for name in found}) < len(found) for found in sets)

    def flatten(self, tree: exp.Expression) -> FlatQuery:
        result = self._select(tree, {}, "")
        if not self._used:
            raise UntranslatableError(f"the query does not read {self._query.source}")
        self._query.columns = result.columns
        return self._query

    # Relations -------------------------------------------------------------------------------------------------------

    def _select(self, tree: exp.Expression, outer: Mapping[str, exp.Expression], name: str) -> Relation:
        """Return the columns of a SELECT, and add its joins and conditions to the query."""
        while isinstance(tree, exp.Subquery) and not _parts(tree) - {"this", "alias"}:
            tree = tree.this
        if isinstance(tree, exp.SetOperation):
            raise UntranslatableError(f"{tree.key.upper()} joins the rows of several queries")
        if not isinstance(tree, exp.Select):
            raise UntranslatableError("the query is not a SELECT")
        self._check_select(tree)
        known = {**outer, **{cte.alias: cte.this for cte in tree.ctes}}
        if tree.args.get("from_") is None:
            raise UntranslatableError("a SELECT without FROM has rows that come from no source")
        scope = self._scope(tree, known)
        translator = Translator(scope.resolve)
        where = tree.args.get("where")
        if where is not None:
            for part in _conjuncts(where.this):
                self._query.conditions.append((part.sql("spark"), _lazily(translator.condition, part)))
        return Relation(name, self._projections(tree, scope, translator))

    @staticmethod
    def _check_select(tree: exp.Select) -> None:
        for part in sorted(_parts(tree)):
            if part in _REFUSED:
                raise UntranslatableError(_REFUSED[part])
            if part not in _SELECT_PARTS:
                raise UntranslatableError(f"{part} is not translated")
        if any(cte.args.get("alias") and cte.args["alias"].columns for cte in tree.ctes):
            raise UntranslatableError("WITH name(columns) is not translated; name the columns with AS")

    def _scope(self, tree: exp.Select, known: Mapping[str, exp.Expression]) -> _Scope:
        scope = _Scope(self._exact)
        first = tree.args["from_"].this
        joins = [*first.args.get("joins", []), *(tree.args.get("joins") or [])]
        left, *others = [first, *(join.this for join in joins)]
        if self._carries_rows(left, known):
            scope.add(self._rows(left, known))
            for join, table in zip(joins, others, strict=True):
                scope.add(self._lookup(join, table, known, scope), _using(join))
            return scope
        if len(joins) == 1 and self._carries_rows(others[0], known) and not joins[0].side:
            # An inner join is symmetric.
            scope.add(self._rows(others[0], known))
            scope.add(self._lookup(joins[0], left, known, scope), _using(joins[0]), first=True)
            return scope
        raise UntranslatableError(
            f"FROM begins with a lookup source, and not with {self._query.source}, whose rows the query keeps one by"
            f" one; write FROM {self._query.source} LEFT JOIN …"
        )

    def _carries_rows(self, table: exp.Expression, known: Mapping[str, exp.Expression]) -> bool:
        if isinstance(table, exp.Table):
            name = str(table.name)
            if name in known:
                inner = {key: value for key, value in known.items() if key != name}
                return self._carries_rows(known[name], inner)
            return self._find(name, self._query.types) == self._query.source
        return any(self._carries_rows(part, known) for part in table.find_all(exp.Table) if part is not table)

    def _rows(self, table: exp.Expression, known: Mapping[str, exp.Expression]) -> Relation:
        alias = str(table.alias_or_name)
        self._check_table(table)
        if not isinstance(table, exp.Table):
            return self._select(table, known, alias)
        name = str(table.name)
        if name in known:
            return self._select(known[name], {key: value for key, value in known.items() if key != name}, alias)
        if self._used:
            raise UntranslatableError(f"{name} is read twice, so that its rows meet other rows of it")
        self._used = True
        return Relation(alias, self._base_columns(self._query.source, ROWS))

    def _lookup(
        self, join: exp.Join, table: exp.Expression, known: Mapping[str, exp.Expression], scope: _Scope
    ) -> Relation:
        self._check_join(join)
        self._check_table(table)
        name = self._find(str(table.name), self._query.types) if isinstance(table, exp.Table) else None
        if not isinstance(table, exp.Table) or str(table.name) in known or name is None:
            raise UntranslatableError("a join with a subquery is not translated; join the source itself")
        if name == self._query.source:
            raise UntranslatableError(f"{name} is read twice, so that its rows meet other rows of it")
        alias = f"lookup_{len(self._query.joins)}"
        relation = Relation(str(table.alias_or_name), self._base_columns(name, alias))
        made = Join(alias, name, [], inner=not join.side)
        made.keys = list(self._keys(join, made, relation, scope))
        if not made.keys:
            raise UntranslatableError(f"the join with {name} has no condition of the form column = expression")
        self._query.joins.append(made)
        return relation

    @staticmethod
    def _check_join(join: exp.Join) -> None:
        kind, side = str(join.kind or "").upper(), str(join.side or "").upper()
        if kind not in ("", "INNER", "OUTER") or side not in ("", "LEFT") or join.args.get("method"):
            words = " ".join(word for word in (str(join.args.get("method") or ""), side, kind) if word)
            raise UntranslatableError(f"{words} JOIN is not translated; use LEFT JOIN or JOIN with ON")
        if _parts(join) - {"this", "on", "using", "side", "kind"}:
            raise UntranslatableError("this form of JOIN is not translated; use LEFT JOIN or JOIN with ON")

    @staticmethod
    def _check_table(table: exp.Expression) -> None:
        alias = table.args.get("alias")
        if _parts(table) & {"sample"}:
            raise UntranslatableError(_REFUSED["sample"])
        if _parts(table) - {"this", "alias", "joins"} or (alias is not None and alias.columns):
            raise UntranslatableError(f"FROM {table.sql('spark')[:80]} is not translated; name the source alone")

    def _base_columns(self, source: str, table: str) -> dict[str, Thunk]:
        def column(name: str, position: int, kind: str) -> Thunk:
            node = exp.column(f"c{position}", table=table)
            return lambda: Typed(node.copy(), kind, frozenset({(source, name)}))

        kinds = self._query.types[source]
        return {name: column(name, position, kind) for position, (name, kind) in enumerate(kinds.items())}

    def _keys(self, join: exp.Join, made: Join, relation: Relation, scope: _Scope) -> Iterable[tuple[str, Typed]]:
        """Yield the columns of a lookup that the join compares, each with the expression that it equals."""
        for name in _using(join):
            yield self._key(relation, self._column_of(relation, name), scope.resolve(exp.column(name)))
        if join.args.get("on") is None:
            return
        both = scope.with_relation(relation)
        for part in _conjuncts(join.args["on"]):
            sides = [part.this, part.expression] if isinstance(part, exp.EQ) else []
            values = [Translator(both.resolve).translate(side) for side in sides]
            own = [
                all(source == made.source and _is_of(value, made.table) for source, _ in value.bases)
                for value in values
            ]
            own = [is_own and bool(value.bases) for is_own, value in zip(own, values, strict=True)]
            if sorted(own) != [False, True] or any(_mixes(value, made.table) for value in values):
                raise UntranslatableError(
                    f"the condition {part.sql('spark')[:80]} of the join with {made.source} is not an equality of one"
                    " of its columns with columns of the rows"
                )
            column = sides[own.index(True)]
            if not isinstance(column, exp.Column):
                raise UntranslatableError(f"the join with {made.source} compares an expression of it; compare a column")
            yield self._key(relation, self._column_of(relation, str(column.name)), values[own.index(False)])

    def _column_of(self, relation: Relation, name: str) -> str:
        found = self._find(name, relation.columns)
        if found is None:
            raise UntranslatableError(f"{relation.name} has no column {name}")
        return found

    @staticmethod
    def _key(relation: Relation, column: str, value: Typed) -> tuple[str, Typed]:
        kind = relation.columns[column]().kind
        whole = ("tinyint", "smallint", "int", "bigint")
        same = kind == value.kind and kind in ("string", "boolean", "date", "timestamp", "timestamp_ntz", *whole)
        if not same and not (kind in whole and value.kind in whole):
            raise UntranslatableError(
                f"the join compares {relation.name}.{column} ({kind}) with {value.kind}; only texts, whole numbers,"
                " dates and timestamps of the same type are joined alike in both engines"
            )
        return column, value

    # Columns ---------------------------------------------------------------------------------------------------------

    def _projections(self, tree: exp.Select, scope: _Scope, translator: Translator) -> dict[str, Thunk]:
        columns: dict[str, Thunk] = {}
        for node in tree.expressions:
            for name, thunk in self._projection(node, scope, translator):
                if name in columns:
                    raise UntranslatableError(f"the query gives {name} twice; name one of them with AS")
                columns[name] = thunk
        return columns

    def _projection(self, node: exp.Expression, scope: _Scope, translator: Translator) -> Iterable[tuple[str, Thunk]]:
        star = node if isinstance(node, exp.Star) else node.this if isinstance(node, exp.Column) else None
        if isinstance(star, exp.Star):
            if _parts(star) - {"except_"}:
                raise UntranslatableError("* with REPLACE or RENAME is not translated")
            left_out = {self._fold(part.name) for part in star.args.get("except_") or ()}
            table = str(node.table) if isinstance(node, exp.Column) else None
            columns = scope.columns(table).items()
            yield from ((name, thunk) for name, thunk in columns if self._fold(name) not in left_out)
            return
        name = node.alias if isinstance(node, exp.Alias) else node.name if isinstance(node, exp.Column) else ""
        value = node.this if isinstance(node, exp.Alias) else node
        yield name or node.sql("spark"), _lazily(translator.translate, value)

    def _fold(self, name: str) -> str:
        return name if self._exact else name.lower()

    def _find(self, name: str, known: Iterable[str]) -> str | None:
        return next((other for other in known if self._fold(other) == self._fold(name)), None)


class _Scope:
    """The relations that expressions of a SELECT can refer to."""

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        self._relations: list[Relation] = []
        self._merged: set[str] = set()

    def add(self, relation: Relation, using: Iterable[str] = (), *, first: bool = False) -> None:
        """Add a relation; the columns of USING are merged with those of the relations before it."""
        self._relations.insert(0 if first else len(self._relations), relation)
        self._merged |= {self._fold(name) for name in using}

    def with_relation(self, relation: Relation) -> _Scope:
        scope = _Scope(self._exact)
        scope._relations = [*self._relations, relation]
        scope._merged = self._merged
        return scope

    def columns(self, table: str | None) -> dict[str, Thunk]:
        """Return the columns of `*`, or of `table.*`."""
        columns: dict[str, Thunk] = {}
        for relation in self._relations:
            if table is not None and self._fold(relation.name) != self._fold(table):
                continue
            for name, thunk in relation.columns.items():
                if name in columns and self._fold(name) not in self._merged:
                    raise UntranslatableError(f"the query gives {name} twice; name one of them with AS")
                columns.setdefault(name, thunk)
        return columns

    def resolve(self, node: exp.Column) -> Typed:
        """Return the expression of a column.

        Raises:
            UntranslatableError: There is none, or several.
        """
        table, name = str(node.table), str(node.name)
        if node.args.get("db") or isinstance(node.this, exp.Star):
            raise UntranslatableError(f"{node.sql('spark')} is a field of a struct; read it in the source")
        found = [
            thunk
            for relation in self._relations
            if not table or self._fold(relation.name) == self._fold(table)
            for column, thunk in relation.columns.items()
            if self._fold(column) == self._fold(name)
        ]
        if not found:
            raise UntranslatableError(f"{node.sql('spark')} is not a column, or is a field of a struct")
        if len(found) > 1 and self._fold(name) not in self._merged:
            raise UntranslatableError(f"{node.sql('spark')} may be a column of several tables; write which one")
        return found[0]()

    def _fold(self, name: str) -> str:
        return name if self._exact else name.lower()


def _parts(node: exp.Expression) -> set[str]:
    return {name for name, part in node.args.items() if part}


def _conjuncts(node: exp.Expression) -> list[exp.Expression]:
    if isinstance(node, exp.Paren):
        return _conjuncts(node.this)
    if isinstance(node, exp.And):
        return [*_conjuncts(node.this), *_conjuncts(node.expression)]
    return [node]


def _using(join: exp.Join) -> list[str]:
    return [str(part.name) for part in join.args.get("using") or ()]


def _is_of(value: Typed, table: str) -> bool:
    return all(str(column.table) == table for column in value.node.find_all(exp.Column))


def _mixes(value: Typed, table: str) -> bool:
    """Return whether an expression has columns of a table and of others."""
    return len({str(column.table) == table for column in value.node.find_all(exp.Column)}) > 1


def _lazily(translate: Callable[[exp.Expression], Typed], node: exp.Expression) -> Thunk:
    """Return a function that translates a node when its result is first needed."""
    kept: list[Typed] = []

    def thunk() -> Typed:
        if not kept:
            kept.append(translate(node))
        return kept[0]

    return thunk


def key_condition(join: Join, types: Mapping[str, str]) -> exp.Condition:
    """Return the condition of a join in DuckDB."""
    names = list(types)
    parts: list[exp.Expression] = []
    for column, value in join.keys:
        own = Typed(exp.column(f"c{names.index(column)}", table=join.table), types[column])
        kind = own.kind if own.kind == value.kind else "bigint"
        parts.append(exp.EQ(this=widen(own, kind).node, expression=widen(value, kind).node.copy()))
    return exp.and_(*parts, copy=False)
