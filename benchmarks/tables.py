"""Output of results: one JSON document, tables, or tables in Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from farandole.cli.console import Column as ConsoleColumn
from farandole.cli.console import make_console, print_table, print_text

Result = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        title: The heading.
        text: Returns the text of a result, given the results of the same case by system.
        wide: Whether it is only shown in Markdown, because a terminal is too narrow for it.
    """

    title: str
    text: Callable[[Result, dict[str, Result]], str]
    wide: bool = False


def _figure(key: str, form: str) -> Callable[[Result, dict[str, Result]], str]:
    def text(result: Result, case: dict[str, Result]) -> str:
        value = result.get(key)
        return "" if value is None else format(value, form)

    return text


def _ratio(of: str, *, inverse: bool = False) -> Callable[[Result, dict[str, Result]], str]:
    """Return the ratio of rows per second to those of another system, or its inverse."""

    def text(result: Result, case: dict[str, Result]) -> str:
        if of not in case or result["system"] == of:
            return ""
        share = result["rows_per_s"] / case[of]["rows_per_s"]
        return f"{1 / share if inverse else share:.3g}"

    return text


def _step_ratio(of: str) -> Callable[[Result, dict[str, Result]], str]:
    """Return the ratio of the time of a step to that of another system."""

    def text(result: Result, case: dict[str, Result]) -> str:
        if of not in case or result["system"] == of:
            return ""
        return f"{result['step_ms'] / case[of]['step_ms']:.3f}"

    return text


def _request_ratio(result: Result, case: dict[str, Result]) -> str:
    """Return how many times as many requests a second Farandole answers."""
    if "farandole" not in case or result["system"] == "farandole":
        return ""
    return f"{case['farandole']['requests_per_s'] / result['requests_per_s']:.2f}"


_COMMON = (
    Column("system", lambda result, case: result["system"]),
    Column("version", lambda result, case: result["version"], wide=True),
    Column("rows", _figure("rows", ","), wide=True),
    Column("rows/s", _figure("rows_per_s", ",")),
    Column("MB/s", _figure("mb_per_s", ",.0f"), wide=True),
)
LOADER = (
    *_COMMON,
    Column("of memcpy", _ratio("memcpy")),
    Column("of memcpy by batches", _ratio("memcpy_batches"), wide=True),
    Column("times slower", _ratio("farandole", inverse=True)),
    Column("first epoch rows/s", _figure("first_epoch_rows_per_s", ","), wide=True),
    Column("open ms", _figure("open_ms", ",.0f"), wide=True),
    Column("first batch ms", _figure("first_batch_ms", ",.1f"), wide=True),
    Column("resume ms", _figure("resume_ms", ",.1f")),
    Column("peak RSS MB", _figure("peak_rss_mb", ",.0f"), wide=True),
    Column("beyond torch MB", _figure("beyond_torch_mb", ",.0f")),
    Column("private MB", _figure("own_beyond_torch_mb", ",.0f"), wide=True),
)
"""Columns of `python -m benchmarks loader`."""
INGEST = (
    *_COMMON,
    Column("times slower", _ratio("farandole", inverse=True)),
    Column("s", _figure("seconds", ",.1f")),
    Column("processor s", _figure("cpu_s", ",.1f")),
    Column("s with start of Spark", _figure("with_start_s", ",.1f"), wide=True),
    Column("written MB", _figure("written_mb", ",.0f"), wide=True),
    Column("peak RSS MB", _figure("peak_rss_mb", ",.0f")),
)
"""Columns of `python -m benchmarks ingest`."""
TRAIN = (
    *_COMMON[:2],
    Column("workers", _figure("workers", "d")),
    Column("step ms", _figure("step_ms", ",.2f")),
    Column("of horovod", _step_ratio("horovod")),
    Column("of ddp", _step_ratio("ddp")),
    Column("fastest ms", _figure("fastest_step_ms", ",.2f"), wide=True),
    Column("CPU ms", _figure("cpu_ms", ",.2f")),
    Column("rows/s", _figure("rows_per_s", ",")),
    Column("peak RSS MB", _figure("peak_rss_mb", ",.0f")),
    Column("loss", _figure("loss", ".4f"), wide=True),
)
"""Columns of `python -m benchmarks train`."""
CHECKPOINT = (
    _COMMON[0],
    Column("step ms", _figure("step_ms", ",.1f")),
    Column("processor ms", _figure("processor_ms", ",.1f")),
    Column("cost", _figure("cost", ".1%")),
    Column("processor cost", _figure("processor_cost", ".1%")),
    Column("checkpoint MB", _figure("checkpoint_mb", ",.0f")),
    Column("stalled ms", _figure("stalled_ms", ",.0f")),
    Column("written after ms", _figure("written_after_ms", ",.0f")),
    Column("writer's processor ms", _figure("writer_processor_ms", ",.0f")),
    Column("stretches", _figure("stretches", "d"), wide=True),
    Column("peak RSS MB", _figure("peak_rss_mb", ",.0f"), wide=True),
)
"""Columns of `python -m benchmarks checkpoint`."""
_SYSTEM = (_COMMON[0], _COMMON[1])
RECOVER = (
    *_SYSTEM,
    Column("workers", _figure("workers", ",")),
    Column("kills", _figure("kills", ",")),
    Column("median s", _figure("seconds_median", ".1f")),
    Column("longest s", _figure("seconds_max", ".1f")),
    Column("same bits", lambda result, case: "yes" if result["bit_identical"] else "no"),
)
"""Columns of `python -m benchmarks recover`."""
START = (
    *_SYSTEM,
    Column("first step s", _figure("first_step_s", ".2f")),
    Column("over horovodrun s", _figure("overhead_s", ".2f")),
)
"""Columns of `python -m benchmarks start`."""

END_TO_END = (
    *_COMMON[:3],
    Column("s", _figure("seconds", ".1f")),
    Column("farandole's share", _figure("ratio", ".2f")),
    Column("repeat's share", _figure("repeat_ratio", ".2f")),
    Column("processor s", _figure("cpu_s", ".1f")),
    Column("ROC AUC", _figure("roc_auc", ".4f")),
    Column("parts", lambda result, case: _parts(result["parts"]), wide=True),
)
"""Columns of `python -m benchmarks end_to_end`."""

TABLES = (
    Column("table", lambda result, case: result["case"]),
    Column("rows", _figure("rows", ",")),
    Column("kind", lambda result, case: result["kind"]),
    Column("metric", lambda result, case: result["metric"]),
    Column("farandole", _figure("score", ".4f")),
    Column("trees", _figure("trees", ".4f")),
    Column("difference", _figure("difference", "+.4f")),
    Column("s", _figure("seconds", ".0f")),
    Column("of which training", _figure("training_s", ".1f"), wide=True),
    Column("best epoch", lambda result, case: f"{result['best_epoch']} of {result['epochs']}", wide=True),
)
"""Columns of `python -m benchmarks tables`."""

SERVE = (
    *_SYSTEM,
    Column("requests/s", _figure("requests_per_s", ",")),
    Column("times as many", _request_ratio),
    Column("p50 ms", _figure("p50_ms", ",.2f")),
    Column("p95 ms", _figure("p95_ms", ",.2f")),
    Column("p99 ms", _figure("p99_ms", ",.2f")),
)
"""Columns of `python -m benchmarks serve`."""

PREDICT = (
    *_COMMON[:4],
    Column("times pandas", _ratio("pandas")),
    Column("s", _figure("seconds", ",.2f")),
    Column("s with start", _figure("with_start_s", ",.2f"), wide=True),
    Column("processor s", _figure("cpu_s", ",.2f")),
    Column("peak RSS MB", _figure("peak_rss_mb", ",.0f")),
)
"""Columns of `python -m benchmarks predict`."""

QUEUE = (
    *_SYSTEM,
    Column("jobs", _figure("jobs", ",")),
    Column("kills", _figure("kills", ",")),
    Column("lost", _figure("lost", ",")),
    Column("run twice", _figure("run_twice", ",")),
    Column("orphans", _figure("orphans", ",")),
    Column("in a wrong state", lambda result, case: _number_of(result.get("wrong"))),
    Column("submitted/s", _figure("submitted_per_s", ".1f")),
    Column("run/s", _figure("run_per_s", ".1f")),
    Column("lines", _figure("lines", ",")),
    Column("median ms", _figure("delay_ms_median", ",")),
    Column("longest ms", _figure("delay_ms_max", ",")),
)
"""Columns of `python -m benchmarks queue`."""


def _parts(seconds: dict[str, float]) -> str:
    return ", ".join(f"{part} {value:.1f}" for part, value in seconds.items())


def _number_of(found: list[str] | None) -> str:
    return "" if found is None else str(len(found))


def show(
    document: dict[str, Any], columns: tuple[Column, ...], *, as_json: bool, as_markdown: bool, title: str = ""
) -> None:
    """Print the document of a benchmark in one of its formats.

    Args:
        document: The document.
        columns: The columns of its tables.
        as_json: Whether to print the document itself.
        as_markdown: Whether to print tables in Markdown.
        title: The heading of one table with all cases, which have one system each. Default: a table for each case.
    """
    if as_json:
        print(json.dumps(document, indent=2))
        return
    console = make_console()
    shown = [column for column in columns if as_markdown or not column.wide]
    for heading, results in _tables(document["results"], title):
        rows = [[column.text(result, results) for column in shown] for result in results.values()]
        used = [index for index in range(len(shown)) if any(row[index] for row in rows)]
        titles, cells = [shown[index].title for index in used], [[row[index] for index in used] for row in rows]
        print()
        if as_markdown:
            _print_markdown(heading, titles, cells)
        else:
            print_table(console, _console_columns(titles), cells, title=heading)
    summary = [describe_summary(document["summary"])] if "summary" in document else []
    bullet = "- " if as_markdown else ""
    for lines in filter(None, (summary, [bullet + line for line in _legend(document)])):
        print()
        for line in lines:
            _print_line(console, line, as_markdown=as_markdown)


def _print_line(console: Console, line: str, *, as_markdown: bool) -> None:
    if as_markdown:
        print(line)
    else:
        print_text(console, line, indent=2)


def _tables(results: list[Result], title: str) -> Iterator[tuple[str, dict[str, Result]]]:
    """Yield the heading and the results of each table."""
    if title:
        yield title, {result["case"]: result for result in results}
        return
    # Ratios between cases of different sizes are allowed: rows per second do not depend on the number of rows.
    cases: dict[str, dict[str, Result]] = {}
    for result in results:
        cases.setdefault(result["case"].split(" x ")[0], {})[result["system"]] = result
    yield from cases.items()


def _console_columns(titles: list[str]) -> list[ConsoleColumn]:
    return [ConsoleColumn(title, is_number=number > 0) for number, title in enumerate(titles)]


def describe_summary(summary: dict[str, Any]) -> str:
    """Return the summary of the comparison with trees as a sentence."""
    return (
        f"At least as good on {summary['at_least_as_good']} of {summary['tables']} tables; worse by more than 2% on"
        f" {summary['worse_by_more_than_2_percent']}; the worst is {summary['worst']} ({summary['worst_share']:+.1%});"
        f" at most {summary['slowest_s']:.0f} s for a table."
    )


def _print_markdown(heading: str, titles: list[str], cells: list[list[str]]) -> None:
    print(f"### {heading}\n")
    print(f"| {' | '.join(titles)} |")
    print(f"|---|{'---:|' * (len(titles) - 1)}")
    for row in cells:
        print(f"| {' | '.join(row)} |")


def _legend(document: dict[str, Any]) -> list[str]:
    """Return a line about each system, and one about the machine."""
    systems = {result["system"]: result["about"] for result in document["results"]}
    machine = document["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "pyarrow", "pyspark"))
    return [
        *(f"{system}: {about}" for system, about in systems.items()),
        f"machine: {machine['cores']} cores, {machine['cpu']}, load {machine['load_1min']}; {versions}",
    ]
