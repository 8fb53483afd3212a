from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from farandole.errors import ModelError, UnavailableError
from farandole.explaining import ExplainedModel, Explainer
from farandole.explaining.attributions import TOLERANCE, token_texts
from farandole.models import mlp
from farandole.preprocess.text import TextTransform
from farandole.shards import Schema
from tests.support.explained import (
    PICTURE,
    TEXT,
    builder_model,
    features_of,
    fit,
    linear,
    made_model,
    raw_batch,
    raw_rows,
)

NUMBERS = {
    "size": {"kind": "numeric", "indicator": True},
    "price": {"kind": "numeric", "scale": "minmax"},
    "copy": {"kind": "numeric"},
}


CASES = {
    "mlp": "regression",
    "tabular": "multiclass",
    "cnn": "multiclass",
    "rnn": "regression",
    "text": "binary",
    "fusion": "binary",
}


@pytest.mark.parametrize(("builder", "kind"), CASES.items())
def test_attributions_add_up_and_do_not_depend_on_the_other_rows(builder: str, kind: str) -> None:
    model = builder_model(builder, kind)
    explainer, batch = Explainer(model), raw_batch(model, 18)  # a block of 16 rows, and one that is not full
    found = explainer.explain(batch)
    assert len(found) == 18
    groups = explainer.attribute(model.preprocessing.features(batch)).groups.values()
    sizes = sum(np.abs(values).reshape(18, -1).sum(axis=1) for values in groups)
    for explanation, size in zip(found, sizes, strict=True):
        assert set(explanation.columns) == set(model.preprocessing.columns)
        difference = explanation.output - explanation.baseline_output
        assert sum(explanation.columns.values()) - difference == pytest.approx(explanation.delta, abs=1e-9)
        assert abs(explanation.delta) <= TOLERANCE * max(abs(difference), size) + 1e-5 * abs(explanation.output)
    assert any(any(explanation.columns.values()) for explanation in found)
    (alone,) = explainer.explain(batch.slice(17, 1))
    assert alone.columns == pytest.approx(found[17].columns, rel=1e-6, abs=1e-9)
    assert alone.output == pytest.approx(found[17].output, rel=1e-6)


def test_a_linear_model_has_weight_times_distance_from_the_baseline() -> None:
    weights = [[0.5, -2.0, 3.0, 0.0]]  # size, its indicator, price, copy
    model = made_model(linear, NUMBERS, "regression", weights=weights)
    explainer = Explainer(model)
    features = features_of(model)["dense"].astype(np.float64)
    products = (features - explainer.baseline.features["dense"]) * weights * model.label.scale.deviation
    found = explainer.attribute(features_of(model))
    assert found.columns["size"] == pytest.approx(products[:, 0] + products[:, 1], abs=1e-4)
    assert found.columns["price"] == pytest.approx(products[:, 2], abs=1e-4)
    assert not found.columns["copy"].any()
    assert found.deltas == pytest.approx(np.zeros(len(features)), abs=1e-4)


def test_the_baseline_of_numbers_is_the_mean_of_the_training_rows() -> None:
    model = made_model(linear, NUMBERS, "regression", weights=[[1.0, 1.0, 1.0, 1.0]])
    explainer = Explainer(model)
    mean = float(np.mean([value for value in raw_rows()["size"] if value is not None]))
    assert explainer.baseline.meaning["size"] == f"{mean:.6g} (mean)"
    raw = {"size": [mean], "price": [float(np.mean(raw_rows()["price"]))], "copy": [float(np.mean(raw_rows()["copy"]))]}
    (found,) = explainer.explain(model.preprocessing.raw_batch(raw))
    assert found.columns == pytest.approx({"size": 0, "price": 0, "copy": 0}, abs=1e-4)
    assert found.output == pytest.approx(found.baseline_output)


def test_without_statistics_zero_is_the_mean_of_standardized_numbers() -> None:
    model = made_model(linear, NUMBERS, "regression", weights=[[1.0, 1.0, 1.0, 1.0]])
    explainer = Explainer(dataclasses.replace(model, statistics={}))
    assert explainer.baseline.features["dense"][0, [0, 1, 3]].tolist() == [0, 0, 0]
    assert explainer.baseline.meaning["copy"] == "mean"


def test_a_missing_category_has_no_attribution() -> None:
    model = builder_model("tabular")
    rows = raw_rows(3)
    rows["colour"] = [None, "c1", None]
    missing, known, _ = Explainer(model).explain(model.preprocessing.raw_batch(rows))
    assert missing.columns["colour"] == 0
    assert known.columns["colour"] != 0
    assert Explainer(model).baseline.meaning["colour"] == "missing"


def test_a_regression_is_explained_in_the_unit_of_its_label() -> None:
    model = made_model(mlp.build, NUMBERS, "regression", hidden=[8])
    features = features_of(model, 4)
    found = Explainer(model).explain_features(features)
    values = model.label.in_units(model.outputs(features)[:, 0])
    assert [each.output for each in found] == pytest.approx(values.tolist(), rel=1e-5)
    assert {(each.unit, each.target) for each in found} == {("label", "label")}


def test_the_predicted_class_is_explained_or_the_one_that_is_asked_for() -> None:
    model = made_model(mlp.build, NUMBERS, "multiclass", hidden=[8])
    features = features_of(model, 6)
    outputs = model.outputs(features)
    explainer = Explainer(model)
    predicted = explainer.explain_features(features)
    assert [each.target for each in predicted] == [model.label.classes[index] for index in outputs.argmax(1)]
    assert [each.output for each in predicted] == pytest.approx(outputs.max(1).tolist(), rel=1e-5)
    asked = explainer.explain_features(features, "b")
    assert [each.output for each in asked] == pytest.approx(outputs[:, 1].tolist(), rel=1e-5)
    with pytest.raises(ModelError, match="target: 'z' is not predicted by this model, which knows a, b, c"):
        explainer.explain_features(features, "z")


def test_no_rows_have_no_explanations() -> None:
    model = builder_model("fusion")
    assert Explainer(model).explain(raw_batch(model, 4).slice(0, 0)) == []


def test_tokens_have_weights_that_add_up_to_the_column_and_padding_has_none() -> None:
    model = builder_model("text")
    rows = {"words": ["late plane", None, "good train storm"]}
    first, empty, last = Explainer(model).explain(model.preprocessing.raw_batch(rows))
    assert "".join(weight.token for weight in first.tokens["words"]).split() == ["late", "plane"]
    assert sum(weight.weight for weight in last.tokens["words"]) == pytest.approx(last.columns["words"])
    assert empty.tokens == {"words": []}
    assert empty.columns == {"words": 0}
    assert first.to_dict()["tokens"]["words"][0][0] == first.tokens["words"][0].token


def test_tokens_are_shown_as_text() -> None:
    preprocessing, _ = fit(TEXT)
    (transform,) = preprocessing.transforms
    assert isinstance(transform, TextTransform)
    ids = preprocessing.features(preprocessing.raw_batch({"words": ["bad sun"]}))["words"][0]
    assert "".join(token_texts(transform, ids[ids > 0])).strip() == "bad sun"


def test_pixels_add_up_to_the_column() -> None:
    model = builder_model("cnn")
    (found,) = Explainer(model).explain(raw_batch(model, 1))
    assert found.pixels["picture"].shape == (8, 8)
    assert float(found.pixels["picture"].sum()) == pytest.approx(found.columns["picture"], rel=1e-4)
    assert len(found.to_dict()["pixels"]["picture"]) == 8


def test_a_large_picture_is_explained_alone() -> None:
    large = {"picture": {"kind": "image", "size": [320, 320], "mode": "gray"}}
    model = made_model(pooled, large, "regression")
    explainer = Explainer(model)
    assert explainer.block_rows == 1
    (found,) = explainer.explain(raw_batch(model, 1))
    assert abs(found.delta) < 0.01


def pooled(schema: Schema) -> nn.Module:
    """Build a network that reads the mean of a picture."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture.float().mean((1, 2)) / 255 * self.factor

    return Pooled()


def test_missing_captum_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *rest: Any) -> Any:
        return None if name == "captum" else real(name, *rest)

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(UnavailableError, match=r"pip install 'farandole\[explain\]'") as raised:
        Explainer(builder_model("cnn"))
    assert raised.value.exit_code == 3


def test_packed_texts_cannot_be_explained() -> None:
    preprocessing, known = fit(PICTURE)
    packed, _ = fit({"words": {"kind": "text", "length": 6, "vocab_size": 300}})
    (transform,) = packed.transforms
    spec = transform.spec.model_copy(update={"mode": "pack"})
    changed = dataclasses.replace(packed, transforms=(dataclasses.replace(transform, spec=spec),))
    network = builder_model("cnn").network
    ExplainedModel(network, preprocessing, known)
    with pytest.raises(ModelError, match="packed texts"):
        ExplainedModel(network, changed)
