from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farandole.bundle import Bundle, open_bundle
from farandole.bundle.compatibility import check_declared, check_fitted
from farandole.errors import ModelError
from farandole.spec import Job, parse_job
from tests.support.bundles import OPTIONS, fitted, write_small_bundle

TEACHER, PRUNED = "train.distill.teacher", "train.prune.model"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_small_bundle(tmp_path_factory.mktemp("model") / "bundle"))


def _job(**changes: Any) -> Job:
    data = {
        "sources": {"a": {"path": "/a.parquet"}},
        "features": {"size": {"kind": "numeric", "indicator": True}, "colour": {"kind": "categorical"}},
        "label": {"column": "y", "kind": "binary"},
    }
    model = {"builder": "farandole.models.mlp:build", "options": OPTIONS}
    return parse_job({"name": "small", "data": {**data, **changes.pop("data", {})}, "model": {**model, **changes}})


@pytest.mark.parametrize("field", [TEACHER, PRUNED])
def test_model_of_the_same_declaration_and_dataset_is_accepted(bundle: Bundle, field: str) -> None:
    check_declared(bundle, _job(), field)
    check_fitted(bundle, fitted(), field)


def test_teacher_may_read_fewer_features_than_the_job_has(bundle: Bundle) -> None:
    more = {"size": {"kind": "numeric", "indicator": True}, "colour": {"kind": "categorical"}}
    check_declared(bundle, _job(data={"features": {"age": {"kind": "numeric"}, **more}}), TEACHER)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        (
            {"data": {"label": {"column": "z", "kind": "binary"}}},
            TEACHER,
            r"predicts y .* z \(binary\)",
        ),
        ({"data": {"label": {"column": "y", "kind": "regression"}}}, TEACHER, r"the job's label is y \(regression\)"),
        ({"data": {"features": {"size": {"kind": "numeric"}}}}, TEACHER, r"its feature size has another spec"),
        (
            {"data": {"features": {"colour": {"kind": "categorical"}}}},
            TEACHER,
            r"reads the feature size, which the job does not have; declare it in data\.features",
        ),
        ({"options": {"hidden": [4]}}, PRUNED, r"its network has another options"),
        ({"builder": "farandole.models.tabular:build"}, PRUNED, r"its network has another builder"),
    ],
)
def test_other_declaration_is_refused(bundle: Bundle, changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        check_declared(bundle, _job(**changes), field)
    assert str(caught.value).startswith(f"{field}: small (sha256:")


def test_label_and_features_that_are_still_guessed_are_not_compared(bundle: Bundle) -> None:
    guessed = {"features": "auto", "label": {"column": "y", "kind": "auto"}}
    check_declared(bundle, _job(data=guessed), TEACHER)
    with pytest.raises(ModelError, match="predicts y"):
        check_declared(bundle, _job(data={**guessed, "label": {"column": "z", "kind": "auto"}}), TEACHER)


def test_feature_with_other_learned_values_is_refused(bundle: Bundle) -> None:
    preprocessing = fitted()
    size = preprocessing.transforms[0]
    moved = replace(preprocessing, transforms=(replace(size, offset=99.0), *preprocessing.transforms[1:]))  # type: ignore[call-arg]
    with pytest.raises(
        ModelError, match=r"its feature size has another offset \(.*, and the job has 99\.0\); train the"
    ):
        check_fitted(bundle, moved, TEACHER)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    model = open_bundle(write_small_bundle(tmp_path / "bundle", "multiclass"))
    found = fitted("multiclass")
    assert found.label is not None
    other = replace(found, label=replace(found.label, classes=("a", "b", "d")))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"predicts the classes a, b, c, and the dataset has a, b, d"):
        check_fitted(model, other, TEACHER)


def test_pruned_network_keeps_its_inputs(bundle: Bundle) -> None:
    found = fitted()
    reordered = replace(found, transforms=found.transforms[::-1])
    check_fitted(bundle, reordered, TEACHER)
    with pytest.raises(ModelError, match=r"was trained on other features .* a pruned network keeps its inputs"):
        check_fitted(bundle, reordered, PRUNED)
