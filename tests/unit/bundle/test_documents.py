"""The documents of a bundle: statistics, metrics, lineage and card."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from farandole.bundle.documents import TrainingRecord, training_documents
from farandole.bundle.statistics import describe_numbers, training_statistics
from farandole.shards import Manifest, content_digest
from farandole.spec import parse_job, with_overrides
from tests.support.bundles import fitted

HISTOGRAM = {"edges": [0.0, 1.0, 2.0], "counts": [5, 3], "below": 1, "above": 0}
NUMBERS = {"rows": 10, "missing": 1, "min": -1.0, "max": 2.0, "mean": 0.5, "deviation": 1.0, "histogram": HISTOGRAM}
COLOURS = {"rows": 8, "distinct": 3, "most_frequent": [["red", 5], ["blue", 2], ["green", 1]], "missing": 2}


def _record(**changes: Any) -> TrainingRecord:
    job = parse_job(
        {
            "name": "small",
            "data": {
                "sources": {"a": {"path": "/a.parquet"}},
                "query": "SELECT * FROM a",
                "features": {"size": "numeric", "colour": "categorical"},
                "label": {"column": "y", "kind": "binary"},
            },
            "model": {"builder": "farandole.models.mlp:build"},
            "tracking": {"uri": "http://tracking-server"},
        }
    )
    preprocessing = fitted()
    manifest = Manifest(
        digest=content_digest(preprocessing.schema, preprocessing.to_dict(), {}),
        columns=preprocessing.schema,
        splits={},
        preprocessing=preprocessing.to_dict(),
        statistics={"size": NUMBERS, "colour": COLOURS},
        split_rule={},
        privacy={"columns": {"name": "drop"}},
        sources=({"path": "/a.parquet", "bytes": 1},),
        request="key",
        code_version={"farandole": "0"},
    )
    values: dict[str, Any] = {
        "job": job,
        "manifest": manifest,
        "metrics": {"test": {"accuracy": 0.81234, "log_loss": float("nan")}, "validation": {"accuracy": 0.8}},
        "report": {
            "intervals": {"test": {"accuracy": [0.79, 0.83]}},
            "baselines": {"baseline": {"accuracy": 0.5}},
            "notes": ["over-fitting: stop earlier"],
            "test_rows_digest": "abc",
        },
        "outputs": np.array([[-2.0], [0.0], [1.0], [3.0]]),
        "run_id": "r1",
        "commit": "c1",
    }
    return TrainingRecord(**{**values, **changes})


def test_statistics_are_shares_of_the_training_rows() -> None:
    found = training_documents(_record())["statistics.json"]
    size = found["columns"]["size"]
    assert (size["kind"], size["edges"], size["shares"]) == ("number", [0.0, 1.0, 2.0], [0.6, 0.3])
    assert size["missing_share"] == pytest.approx(0.1)
    assert found["columns"]["colour"] == {
        "kind": "category", "values": ["red", "blue", "green"], "shares": [0.5, 0.2, 0.1], "missing_share": 0.2,
    }  # fmt: skip
    assert found["predictions"]["prediction"]["shares"] == [0.5, 0.5]
    probability = found["predictions"]["probability"]
    assert sum(probability["shares"]) == pytest.approx(1)
    assert len(probability["edges"]) == len(probability["shares"]) + 1


def test_bins_of_predictions_are_deciles_and_a_constant_has_one() -> None:
    found = describe_numbers(np.arange(1001.0))
    assert found["edges"] == pytest.approx(list(range(0, 1001, 100)))
    assert found["shares"] == pytest.approx([0.1] * 10, abs=0.01)
    assert describe_numbers(np.full(5, 3.0))["shares"] == [1.0]


def test_outputs_that_are_not_finite_are_left_out() -> None:
    manifest = _record().manifest
    for lost in (np.nan, np.inf):
        found = training_statistics(manifest, np.array([[0.0], [lost], [2.0]], np.float32))["predictions"]
        assert found["probability"]["edges"][0] == 0.5
        assert sum(found["prediction"]["shares"]) == pytest.approx(1)
        assert training_statistics(manifest, np.full((3, 1), lost, np.float32))["predictions"] == {}


def test_metrics_have_intervals_and_baselines() -> None:
    found = training_documents(_record())["metrics.json"]
    assert found["test"]["accuracy"] == {"value": 0.81234, "interval": [0.79, 0.83]}
    assert found["validation"] == {"accuracy": {"value": 0.8}}
    assert found["baselines"] == {"baseline": {"accuracy": 0.5}}


def test_the_lineage_leads_to_run_query_and_sources_without_the_tracking_server() -> None:
    found = training_documents(_record())["lineage.json"]
    assert (found["mlflow_run_id"], found["git_commit"], found["query"]) == ("r1", "c1", "SELECT * FROM a")
    assert found["sources"] == [{"path": "/a.parquet", "bytes": 1}]
    assert found["privacy"] == {"columns": {"name": "drop"}}
    assert "tracking-server" not in json.dumps(found)


def test_the_card_shows_data_metrics_and_limits() -> None:
    card = training_documents(_record())["card.md"]
    assert card.startswith("# small\n\nPredicts `y` (binary) with the network `farandole.models.mlp:build`.")
    assert "| accuracy | 0.8123 | 0.79 to 0.83 | 0.8 | 0.5 |" in card
    assert "- over-fitting: stop earlier" in card
    assert "- privacy policies were applied to `name`" in card


def test_the_card_says_that_the_validation_rows_were_learned() -> None:
    record = _record()
    said = "- The validation rows were learned at the end (`train.refit`): validation is of the weights before."
    assert said not in training_documents(record)["card.md"]
    refit = _record(job=with_overrides(record.job, {"train.refit": {"epochs": 2}}))
    assert said in training_documents(refit)["card.md"]


def test_a_training_without_a_test_split_has_documents_too() -> None:
    found = training_documents(_record(metrics={"test": {}, "validation": {}}, report={}, outputs=None))
    assert found["statistics.json"]["predictions"] == {}
    assert "## Metrics" not in found["card.md"]
