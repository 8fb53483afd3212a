"""Renders registered models: lists, versions, promotions, comparisons, origins and cards."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from farandole.cli.console import Column, make_console, mark, print_table, print_text, print_values, wrap
from farandole.cli.render import print_json
from farandole.events import format_count, format_metric

if TYPE_CHECKING:
    from farandole.serving.compression import Compression
    from farandole.serving.registry import (
        ModelCardText,
        ModelComparison,
        ModelVersion,
        Promotion,
        RegisteredModel,
        TraceStep,
    )

_SHOWN_METRICS = 2
"""Metrics of a version in the table of versions; one version alone is shown with all."""
_SHOWN_FILES = 12
_GUIDE_CELLS = 4
_MIN_LABEL_CELLS = 30
_UNLIMITED_CELLS = 10_000


def show_models(models: list[RegisteredModel], *, as_json: bool) -> None:
    """Show the result of `models list`."""
    if as_json:
        print_json([model.to_dict() for model in models])
        return
    console = make_console()
    if not models:
        print_text(console, "no registered models; `farandole train JOB.yaml --register` registers one")
        return
    columns = [Column("name", style="bold"), Column("versions", is_number=True), Column("newest", is_number=True)]
    columns += [Column("aliases", is_text=True), Column("changed")]
    rows = []
    for model in models:
        aliases = ", ".join(f"{alias} {version}" for alias, version in model.aliases.items())
        rows.append([model.name, str(model.versions), model.newest or "", aliases, _day(model.updated)])
    print_table(console, columns, rows)


def show_versions(versions: list[ModelVersion], *, as_json: bool) -> None:
    """Show the result of `models show NAME`."""
    if as_json:
        print_json([version.to_dict() for version in versions])
        return
    columns = [Column("version", style="bold"), Column("aliases", is_text=True), Column("registered")]
    columns += [Column("test", is_text=True), Column("dataset")]
    rows = []
    for version in versions:
        shown = [f"{name} {format_metric(value)}" for name, value in version.metrics.items()]
        metrics = ", ".join([*shown[:_SHOWN_METRICS], *(["…"] if len(shown) > _SHOWN_METRICS else [])])
        rows.append(
            [version.version, ", ".join(version.aliases), _day(version.created), metrics, version.dataset or ""]
        )
    print_table(make_console(), columns, rows, title=versions[0].name)


def show_version(version: ModelVersion, *, as_json: bool) -> None:
    """Show the result of `models show NAME/VERSION`."""
    if as_json:
        print_json(version.to_dict())
        return
    metrics = "\n".join(f"{name} {format_metric(value)}" for name, value in version.metrics.items())
    params = "\n".join(f"{name} {value}" for name, value in version.params.items())
    rows = [
        ("aliases", ", ".join(version.aliases) or "none"),
        ("registered", version.created),
        ("test metrics", metrics or "none recorded"),
        ("test rows", version.test_rows or "none recorded"),
        ("dataset", version.dataset or "none recorded"),
        ("job", version.job or "unknown"),
        ("MLflow run", version.run_id or "unknown"),
        ("params", params or "none recorded"),
    ]
    print_values(make_console(), rows, title=version.uri)


def show_promotion(plan: Promotion) -> None:
    """Show what a promotion would move, and the outcomes of its gates."""
    console = make_console()
    former = "no version" if plan.former is None else f"version {plan.former}"
    print_text(console, f"{plan.name}@{plan.alias}: {former} → version {plan.version}", indent=2, style="bold")
    for gate in plan.gates:
        print_text(console, f"{gate.gate}: {gate.text}", indent=2, head=mark(console, ok=gate.passed))


def show_promoted(done: Promotion, *, dry_run: bool, as_json: bool) -> None:
    """Show what became of a promotion.

    Args:
        done: The promotion.
        dry_run: Whether nothing was to be changed.
        as_json: Whether to print a document.
    """
    if as_json:
        print_json(done.to_dict())
        return
    console = make_console()
    if done.moved:
        text = "moved"
        if done.former is not None:
            text += f"; `farandole models promote {done.name} --rollback{_alias_option(done)}` moves it back"
    elif not done.passed:
        text = "not moved: a gate is not passed"
    elif not done.is_needed:
        text = "nothing to do: the alias stands for this version already"
    else:
        text = "nothing was changed (--dry-run)" if dry_run else "not moved"
    print_text(console, text, indent=2)


def show_comparison(found: ModelComparison, *, as_json: bool) -> None:
    """Show the result of `models compare`."""
    if as_json:
        print_json(found.to_dict())
        return
    console = make_console()
    columns = [Column("", style="bold"), Column(_short_name(found.first)), Column(_short_name(found.second))]
    number_columns = [columns[0], *(Column(column.name, is_number=True) for column in columns[1:])]
    number_columns.append(Column("change", is_number=True))
    tables: list[tuple[str, Mapping[str, Any], Any]] = [
        ("metrics on the test split", found.metrics, format_metric),
        ("rows of the dataset", found.rows, _integer),
        ("bytes of the bundle", found.sizes, _integer),
    ]
    for title, pairs, text in tables:
        rows = [[name, *(_or_dash(value, text) for value in pair), _change(*pair)] for name, pair in pairs.items()]
        if rows:
            print_table(console, number_columns, rows, title=title)
            print_text(console, "")
    if found.metrics and not found.comparable:
        print_text(console, "the versions were measured on different test rows: their metrics cannot be compared\n")
    facts = [
        ["dataset", found.first.dataset or "-", found.second.dataset or "-"],
        ["test rows", _short(found.first.test_rows), _short(found.second.test_rows)],
        *([name, *("-" if value is None else str(value) for value in pair)] for name, pair in found.params.items()),
    ]
    text_columns = [columns[0], *(Column(column.name, is_text=True) for column in columns[1:])]
    print_table(console, text_columns, facts, title="datasets, and params that differ")


def show_trace(step: TraceStep, *, as_json: bool) -> None:
    """Show the result of `models trace`."""
    gaps = list(step.gaps)
    if as_json:
        print_json({**step.to_dict(), "complete": not gaps})
        return
    console = make_console()
    tree = Tree(_label(step, console.width))
    _grow(tree, step, console.width - _GUIDE_CELLS)
    width, console.width = console.width, _UNLIMITED_CELLS  # rich would cut words that are longer than a line
    console.print(tree, soft_wrap=True)
    console.width = width
    if gaps:
        print_text(console, "")
        print_text(console, f"{format_count(len(gaps), 'link')} missing; the tree says why")


def show_card(card: ModelCardText, *, as_json: bool) -> None:
    """Show the result of `models card`: its text as it is, or laid out on a terminal."""
    if as_json:
        print_json(card.to_dict())
        return
    if not sys.stdout.isatty():
        print(card.text)
        return
    from rich.markdown import Markdown

    make_console().print(Markdown(card.text, hyperlinks=False))


def show_compressions(found: Sequence[Compression], *, as_json: bool) -> None:
    """Show the result of `models compress`: one table of the model and of the smaller ones."""
    first = found[0]
    if as_json:
        document = {"model": first.model, "metric": first.metric, "before": asdict(first.before)}
        print_json({**document, "results": [each.to_dict() for each in found]})
        return
    console = make_console()
    columns = [Column("", style="bold")]
    columns += [Column(name, is_number=True) for name in ("bytes", "gzip", "ms for a row", "rows/s", first.metric)]
    measures = [(first.before.form, first.before), *((each.method, each.after) for each in found)]
    rows = [
        [
            name,
            f"{form.bytes:,}",
            f"{form.archive_bytes:,}",
            f"{form.row_ms:.3f}",
            f"{form.rows_per_s:,.0f}",
            format_metric(form.metric),
        ]
        for name, form in measures
    ]
    print_table(console, columns, rows, title=f"{first.model}, one thread, test split")
    for each in found:
        print_text(console, _compression_text(each))


def _compression_text(found: Compression) -> str:
    """Return what became of a smaller model."""
    if not found.accepted:
        return (
            f"{found.metric} is worse by {found.drop:.2%}, and {found.max_drop:.2%} is accepted: nothing was written or"
            f" registered for {found.method}; --max-drop accepts more"
        )
    written = [f"written to {found.output}"] if found.output is not None else []
    written += [f"registered as {found.registered}"] if found.registered is not None else []
    return f"{found.method}: {', '.join(written) or 'nothing was written (--dry-run)'}"


def _grow(tree: Tree, step: TraceStep, width: int) -> None:
    """Add the steps below a step; of very many files only the first ones."""
    is_long = len(step.steps) > _SHOWN_FILES and all(child.kind == "file" for child in step.steps)
    for child in step.steps[:_SHOWN_FILES] if is_long else step.steps:
        _grow(tree.add(_label(child, width)), child, width - _GUIDE_CELLS)
    if is_long:
        tree.add(Text(f"{len(step.steps) - _SHOWN_FILES:,} more files; --json lists them", style="dim"))


def _label(step: TraceStep, width: int) -> Text:
    """Return the text of a step: its kind and name, and below them what is known of it."""
    room = max(width, _MIN_LABEL_CELLS)
    label = Text()
    label.append("\n".join(wrap(f"{step.kind}: {step.name}", room, 2)), style="bold")
    if step.missing is not None:
        label.append("\n" + _indented(f"missing: {step.missing}", room), style="yellow")
    for name, value in step.facts.items():
        label.append("\n" + _indented(f"{name}: {_value(value)}", room))
    return label


def _indented(text: str, room: int) -> str:
    """Return a text in lines of a width: the first one indented by two cells, the others by four."""
    lines = [part for line in text.splitlines() for part in wrap(line, room - 4)]
    return "\n".join(("  " if number == 0 else "    ") + line for number, line in enumerate(lines))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(each)}" for name, each in value.items() if each not in (None, ""))
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, float):
        return format_metric(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _change(first: Any, second: Any) -> str:
    if first is None or second is None:
        return ""
    if isinstance(first, int) and isinstance(second, int):
        return f"{second - first:+,}" if second != first else "="
    return f"{second - first:+.4g}" if second != first else "="


def _or_dash(value: Any, text: Any) -> str:
    return "-" if value is None else str(text(value))


def _integer(value: int) -> str:
    return f"{value:,}"


def _short(digest: str | None) -> str:
    return "-" if digest is None else digest[:8]


def _short_name(version: ModelVersion) -> str:
    return f"{version.name}/{version.version}"


def _day(time: str) -> str:
    return time[:16].replace("T", " ")


def _alias_option(done: Promotion) -> str:
    return "" if done.alias == "champion" else f" --alias {done.alias}"
