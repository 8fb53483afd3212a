"""The table of `models compress`. The other tables of models are in tests/integration/serving/registry."""

from __future__ import annotations

import json

import pytest

from farandole.cli.render_models import show_compressions
from farandole.serving.compression import Compression, FormMeasure

_BEFORE = FormMeasure("eager", 120_000, 0.2, 90_000, 0.8123456, 110_000)
_FOUND = [
    Compression(
        "models:/a/1",
        "int8 dynamic",
        "roc_auc",
        _BEFORE,
        FormMeasure("int8", 40_000, 0.05, 150_000, 0.81, 30_000),
        drop=0.003,
        max_drop=0.01,
        registered="models:/a/2",
    ),
    Compression(
        "models:/a/1",
        "pruned 0.9",
        "roc_auc",
        _BEFORE,
        FormMeasure("eager", 120_000, 0.2, 90_000, 0.61, 20_000),
        drop=0.25,
        max_drop=0.01,
    ),
]


def test_all_ways_stand_below_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    show_compressions(_FOUND, as_json=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "eager 120,000 110,000 0.200 90,000 0.8123" in lines
    assert "int8 dynamic 40,000 30,000 0.050 150,000 0.81" in lines
    assert "pruned 0.9 120,000 20,000 0.200 90,000 0.61" in lines
    text = " ".join(lines)
    assert "int8 dynamic: registered as models:/a/2" in text
    assert "roc_auc is worse by 25.00%, and 1.00% is accepted: nothing was written or registered for pruned 0.9" in text


def test_document_has_the_model_once_and_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    show_compressions(_FOUND, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["before"]["archive_bytes"] == 110_000
    assert [(each["method"], each["accepted"]) for each in document["results"]] == [
        ("int8 dynamic", True),
        ("pruned 0.9", False),
    ]
