from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import Distill, Prune, Train


@pytest.mark.parametrize(
    "model",
    [
        "models:/flights/3",
        "models:/flights/latest",
        "models:/flights@champion",
        "runs:/0a1b/model",
        f"models:/m-{'0' * 32}",
    ],
)
def test_models_of_mlflow_are_named_as_on_the_command_line(model: str) -> None:
    assert Distill(teacher=model).model == model
    assert Prune(model=model).model == model


def test_directory_is_relative_to_the_job_file(tmp_path: Path) -> None:
    found = Distill.model_validate({"teacher": "bundles/flights"}, context={"folder": str(tmp_path)})
    assert found.teacher == str(tmp_path / "bundles" / "flights")


@pytest.mark.parametrize(
    ("part", "fields", "problem"),
    [
        (
            Distill,
            {"teacher": "models:/flights"},
            "models:/flights is not the name of a model; use models:/NAME/VERSION",
        ),
        (Distill, {"teacher": "s3://bucket/model"}, "is not the name of a model"),
        (Distill, {"teacher": "runs:/0a1b"}, "is not the name of a model"),
        (Distill, {"teacher": "/a", "weight": 0}, "greater than 0"),
        (Distill, {"teacher": "/a", "weight": 1.5}, "less than or equal to 1"),
        (Distill, {"teacher": "/a", "temperature": 0}, "greater than 0"),
        (Distill, {"teacher": "/a", "digest": "abc"}, "should match pattern"),
        (Prune, {"model": "/a", "share": 1}, "less than 1"),
        (Prune, {"share": 0.5}, "Field required"),
    ],
)
def test_wrong_fields_are_refused(part: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        part(**fields)


def test_training_lists_the_models_that_it_names() -> None:
    assert Train().trained_models == {}
    train = Train(distill=Distill(teacher="/a"), prune=Prune(model="/b"))
    assert {name: part.model for name, part in train.trained_models.items()} == {"distill": "/a", "prune": "/b"}
