"""The report is parsed as by a browser and compared with the manifest."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farandole.errors import DatasetError
from farandole.pages import dataset_page
from farandole.pages.dataset import CHART_HEIGHT, CHART_WIDTH, bar_lengths, histogram_bars
from farandole.preprocess import Summary
from farandole.shards import Manifest, read_manifest, write_manifest
from tests.support.made_data import ROWS, Made

EVIL = "</td><script>alert(1)</script>\"'&"
VOID = {"meta", "rect", "br"}


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text; every opened element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += f" {data}"

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(made: Callable[..., Made], tmp_path: Path) -> Callable[..., Parsed]:
    """Render the small dataset with changed parts of its manifest."""

    def page(**changes: Any) -> Parsed:
        write_manifest(tmp_path, Manifest.model_validate({**made("binary").manifest.model_dump(), **changes}))
        return Parsed(dataset_page(tmp_path))

    return page


def summary() -> dict[str, Any]:
    """Return the statistics of a column."""
    seen = Summary()
    seen.add(np.concatenate([np.random.default_rng(0).normal(5, 2, 900), np.full(100, np.nan)]))
    return seen.to_dict()


def test_the_report_shows_the_content_of_the_manifest(page: Callable[..., Parsed], made: Callable[..., Made]) -> None:
    found = " ".join(page().text.split())
    manifest = made("binary").manifest
    assert manifest.digest in found
    for split, rows in ROWS.items():
        assert re.search(rf"{split} {rows:,} [\d.]+% 2 ", found)
    assert f"{sum(ROWS.values()):,} rows" in found
    assert "dense numbers float32 [5] width, width_missing, height, seen_at_hour_sin, seen_at_hour_cos" in found
    assert "colour (5 ids)" in found
    assert manifest.sources[0]["path"] in found
    assert manifest.code_version["farandole"] in found
    assert "a missing value becomes" in found
    assert "train 80%, validation 10%, test 10%, by a hash of the whole row. Seed 0." in found


def test_a_histogram_has_a_bar_for_each_bin(page: Callable[..., Parsed]) -> None:
    statistics = summary()
    found = page(statistics={"width": statistics})
    counts = statistics["histogram"]["counts"]
    (drawing,) = [svg for svg in found.of("svg") if svg.get("role") == "img"]
    assert str(drawing["aria-label"]).startswith(f"Histogram of width: {sum(counts):,} values between ")
    heights = [float(bar["height"] or 0) for bar in found.of("rect")]
    assert len(heights) == len(counts)
    assert heights.index(max(heights)) == counts.index(max(counts))
    assert heights == pytest.approx([72 * count / max(counts) for count in counts], abs=1.01)
    titles = re.findall(r"to [\d.,-]+: ([\d,]+)", found.text)
    assert [int(count.replace(",", "")) for count in titles] == counts
    assert "100 of 1,000 (10.0%)" in found.text


def test_frequent_values_are_shown_with_bars_and_counts(page: Callable[..., Parsed]) -> None:
    frequent = [["red", 40], ["green", 10], ["blue", 1]]
    found = page(statistics={"colour": {"rows": 60, "distinct": 12, "most_frequent": frequent}})
    assert [float(bar["width"] or 0) for bar in found.of("rect")] == [100, 25, 2.5]
    assert re.search(r"red\s+40\s+green\s+10\s+blue\s+1\s+and 9 more", found.text)


def test_every_text_is_escaped(made: Callable[..., Made], page: Callable[..., Parsed]) -> None:
    """Values, names and paths are shown as text, whatever they contain."""
    manifest = made("binary").manifest.model_dump()
    preprocessing = manifest["preprocessing"]
    for transform in preprocessing["transforms"]:
        transform |= {"name": EVIL, "column": EVIL}
    found = page(
        preprocessing=preprocessing,
        statistics={EVIL: {"rows": 1, "distinct": 1, "most_frequent": [[EVIL, 1]]}, f"{EVIL}2": summary()},
        sources=[{"source": EVIL, "path": EVIL, "bytes": 3, "mtime_ns": 0}],
        code_version={EVIL: EVIL},
        split_rule={"column": EVIL},
    )
    assert found.of("script") == []
    assert found.text.count(EVIL) > 6
    handlers = [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert handlers == []


def test_expectations_and_privacy_are_shown(page: Callable[..., Parsed]) -> None:
    expected = {"column": "fare", "min": 0, "values": None}
    found = page(
        expectations=[{"broken": 12, "examples": [{"rows": 4, "value": EVIL}], "expected": expected, "passed": False}],
        privacy={
            "columns": {"email": {"policy": "mask", "keep": 4}},
            "detect": True,
            "key": {},
            "together": ["a", "b"],
        },
    )
    text = " ".join(found.text.split())
    assert f"Expectations expected passed broken examples column fare min 0 no 12 value rows {EVIL} 4" in text
    assert "Privacy columns email policy mask keep 4 detect yes together a, b" in text
    assert found.of("script") == []


def test_the_report_uses_no_external_resources(page: Callable[..., Parsed]) -> None:
    found = page(statistics={"width": summary()})
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in found.elements}
    assert not [attributes for _, attributes in found.elements if "src" in attributes or "href" in attributes]
    policy = next(meta["content"] for meta in found.of("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_report_is_accessible_to_screen_readers(page: Callable[..., Parsed]) -> None:
    found = page(statistics={"width": summary()})
    assert found.of("html")[0]["lang"] == "en"
    assert len(found.of("h1")) == 1
    assert len(found.of("main")) == 1
    assert all("scope" in attributes for attributes in found.of("th"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in found.of("svg"))
    ids = {attributes["id"] for _, attributes in found.elements if "id" in attributes}
    assert {section["aria-labelledby"] for section in found.of("section") if "aria-labelledby" in section} <= ids


def test_equal_manifests_give_equal_reports(made: Callable[..., Made]) -> None:
    assert dataset_page(made("binary").path) == dataset_page(str(made("binary").path))


def test_a_dataset_without_label_and_statistics_has_a_report(
    page: Callable[..., Parsed], made: Callable[..., Made]
) -> None:
    columns = {**read_manifest(made("binary").path).columns.model_dump(), "label": None}
    found = page(columns=columns, preprocessing={}, statistics={}, sources=[], split_rule={})
    assert " label " not in " ".join(found.text.split())


def test_a_missing_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="so no dataset"):
        dataset_page(tmp_path)


def test_bars_start_at_the_baseline_and_fill_the_width() -> None:
    bars = histogram_bars([0.0, 1.0, 2.0, 4.0], [5, 0, 10])
    assert [bar["x"] for bar in bars] == [0, CHART_WIDTH / 4, CHART_WIDTH / 2]
    assert [bar["height"] for bar in bars] == [CHART_HEIGHT / 2, 0, CHART_HEIGHT]
    assert all(bar["y"] + bar["height"] == CHART_HEIGHT for bar in bars)
    assert bars[2]["x"] + bars[2]["width"] == CHART_WIDTH - 1
    assert [bar["title"] for bar in bars] == ["0 to 1: 5", "1 to 2: 0", "2 to 4: 10"]


def test_a_single_value_among_millions_is_visible() -> None:
    assert histogram_bars([0.0, 1.0, 2.0], [1, 10_000_000])[0]["height"] == 1


@pytest.mark.parametrize(("counts", "expected"), [([], []), ([0], [0]), ([4, 1], [100, 25])])
def test_bar_lengths_are_relative_to_the_longest(counts: list[int], expected: list[float]) -> None:
    assert bar_lengths(counts) == expected
