from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from farandole.explaining.importance import Sample, named_metric
from farandole.explaining.plots import plot_report
from farandole.explaining.report import Limits, Report, explain_model
from tests.support.explained import builder_model, features_of

ROWS = 40


@pytest.fixture(scope="module")
def fusion() -> Report:
    """Explain a model with features of every kind."""
    return _report("fusion", Limits(rows=ROWS, repeats=2, seconds=1000))


def _report(builder: str, limits: Limits, *, labelled: bool = True) -> Report:
    model = builder_model(builder)
    label = np.arange(100).astype(np.int32) % 2 if labelled else None
    sample = Sample(features_of(model, 100), label, "made rows")
    return explain_model(model, sample, named_metric(None, model.label), limits, name="made")


def test_the_report_has_every_part_as_plain_numbers(fusion: Report) -> None:
    document = json.loads(json.dumps(fusion.document))
    assert document["rows"] == ROWS
    assert document["skipped"] == []
    assert (document["metric"], document["unit"], document["origin"]) == ("roc_auc", "log-odds", "made rows")
    assert 0 <= document["score"] <= 1
    for entry in document["columns"].values():
        assert len(entry["permutation"]["values"]) == 2
        assert entry["attribution"]["mean_size"] >= 0
        assert entry["baseline"]
    assert sum(entry["attribution"]["share"] for entry in document["columns"].values()) == pytest.approx(1)
    assert document["columns"]["price"]["dependence"]["points"]
    assert document["activations"]
    assert document["layers"]
    assert document["completeness"]["largest_gap"] < document["completeness"]["mean_difference"]
    assert len(document["single_rows"]) == 8
    assert "pixels" not in document["single_rows"][0]
    assert fusion.summary.startswith("40 made rows in ")


def test_every_part_has_a_plot(fusion: Report) -> None:
    plots = plot_report(fusion)
    assert set(plots) == {
        "permutation_importance.png",
        "attributions.png",
        "partial_dependence.png",
        "activations.png",
        "saliency_picture.png",
        "tokens_words.png",
    }
    for content in plots.values():
        with Image.open(io.BytesIO(content)) as image:
            assert image.width > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 5  # not blank


def test_what_the_time_does_not_suffice_for_is_listed() -> None:
    report = _report("fusion", Limits(seconds=0))
    skipped = report.document["skipped"]
    assert {"attributions", "permutation of size", "dependence of price", "activations", "layers"} <= set(skipped)
    assert report.rows == []
    assert plot_report(report) == {}
    assert ", without " in report.summary


def test_rows_without_labels_are_explained_without_a_metric() -> None:
    document = _report("text", Limits(rows=20, seconds=1000), labelled=False).document
    assert document["score"] is None
    assert document["skipped"] == ["permutation importance: the rows have no label"]
    assert document["columns"]["words"]["attribution"]["share"] == 1


def test_single_rows_can_be_withheld() -> None:
    report = _report("text", Limits(rows=20, repeats=1, seconds=1000, shows_rows=False))
    assert report.rows == []
    assert report.document["single_rows"] == []


def test_results_are_the_same_every_time() -> None:
    first, again = (
        {**_report("text", Limits(rows=30, repeats=2, seconds=1000)).document, "seconds": 0} for _ in range(2)
    )
    assert first == again
    other = _report(
        "text", Limits(**{**dataclasses.asdict(Limits(rows=30, repeats=2, seconds=1000)), "seed": 1})
    ).document
    assert other["columns"]["words"]["attribution"] == first["columns"]["words"]["attribution"]
