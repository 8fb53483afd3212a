from __future__ import annotations

from typing import Any

import pytest

from farandole.pages.descriptions import describe_split, describe_transform

NUMERIC: dict[str, Any] = {
    "kind": "numeric",
    "name": "wind",
    "column": "wind",
    "spec": {"impute": "median", "indicator": True, "log": True, "scale": "standard"},
    "fill": 10.5,
    "lower": None,
    "upper": 33.0,
    "offset": 2.0,
    "factor": 0.25,
}


@pytest.mark.parametrize(
    ("transform", "steps"),
    [
        (
            NUMERIC,
            [
                "a missing value becomes 10.5, the median",
                "wind_missing marks missing values",
                "clipped up to 33",
                "sign(x) · log(1 + |x|)",
                "mean 0, deviation 1: (x - 2) / 4",
            ],
        ),
        (
            {**NUMERIC, "spec": {"impute": None, "scale": "minmax"}, "fill": None, "upper": None, "factor": 0.0},
            ["a missing value is an error", "0 to 1: a constant: 0 everywhere"],
        ),
        (
            {**NUMERIC, "spec": {"impute": 0.0, "scale": "none"}, "fill": 0.0, "lower": -1.0, "upper": 1.0},
            ["a missing value becomes 0", "clipped from -1 up to 1"],
        ),
        (
            {"kind": "vocabulary", "spec": {"min_count": 20}, "vocabulary": ["a", "b"]},
            ["an id for each of 2 known values, those seen at least 20 times", "0 is unknown, 1 is missing"],
        ),
        (
            {"kind": "vocabulary", "spec": {"encoding": "onehot"}, "vocabulary": ["a", "b"]},
            ["a column of 0 and 1 for each of 2 known values", "and one for a missing value"],
        ),
        ({"kind": "hash", "spec": {"buckets": 1024}}, ["hashed to one of 1,024 ids", "1 is missing"]),
        (
            {"kind": "bucket", "spec": {"encoding": "category"}, "boundaries": [1.0, 2.5]},
            ["an id for each of 3 intervals", "bounds: 1, 2.5"],
        ),
        (
            {"kind": "time numbers", "spec": {"parts": ["year"], "encoding": "number", "scale": "robust"}},
            ["year", "a number for each, scaled: robust; a missing one becomes the median"],
        ),
        (
            {"kind": "time", "spec": {"parts": ["day_of_year", "hour"], "encoding": "cyclic"}},
            ["day of year, hour", "sine and cosine of each"],
        ),
        ({"kind": "tensor", "spec": {"dtype": "float32", "shape": [3, 4]}}, ["float32 [3 x 4], as it is"]),
        (
            {"kind": "text", "spec": {"tokenizer": "bpe", "mode": "pad", "length": 2048, "truncate": "start"}},
            [
                "tokens by bpe, learned on the training split",
                "a window of 2,048 tokens; a longer text is cut at its start",
            ],
        ),
        (
            {"kind": "text", "spec": {"tokenizer": "words", "mode": "pack", "length": 64}},
            [
                "tokens by words, learned on the training split",
                "all texts concatenated, in windows of 64 tokens",
            ],
        ),
        (
            {"kind": "image", "spec": {"mode": "rgb", "size": [32, 48], "fit": "crop"}},
            ["rgb, 32 x 48 pixels; other proportions: crop"],
        ),
        (
            {"kind": "spectrum", "spec": {"kind": "spectrum", "bands": 12, "window": None, "log": False, "of": ["a"]}},
            ["spectrum", "bands: 12", 'of: ["a"]'],
        ),
    ],
)
def test_a_transform_is_described_in_words(transform: dict[str, Any], steps: list[str]) -> None:
    assert describe_transform(transform) == steps


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, ""),
        ({"column": "part", "train": 0.8}, "The column part determines the split of a row."),
        (
            {"train": 0.8, "validation": 0.0, "test": 0.2, "by": [], "seed": 17},
            "train 80%, test 20%, by a hash of the whole row. Seed 17.",
        ),
        (
            {"train": 1.0, "by": ["day", "origin"], "seed": 0},
            "train 100%, by a hash of day, origin: rows with equal values share a split. Seed 0.",
        ),
    ],
)
def test_the_split_rule_is_described_in_words(rule: dict[str, Any], words: str) -> None:
    assert describe_split(rule) == words
