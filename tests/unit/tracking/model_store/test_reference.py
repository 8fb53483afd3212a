from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import RegistryError
from farandole.tracking.model_store.reference import ModelReference, parse_model, parse_registered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:/flights/3", ModelReference("models:/flights/3", name="flights", version="3")),
        ("models:/flights/latest", ModelReference("models:/flights/latest", name="flights", version="latest")),
        ("models:/my cars@best", ModelReference("models:/my cars@best", name="my cars", alias="best")),
        ("models:/m-" + "0" * 32, ModelReference("models:/m-" + "0" * 32, logged_model="m-" + "0" * 32)),
        ("runs:/abc/model", ModelReference("runs:/abc/model", run_id="abc", logged_name="model")),
        ("/bundles/flights", ModelReference("/bundles/flights", directory=Path("/bundles/flights"))),
        ("file:///a%20b", ModelReference("file:///a%20b", directory=Path("/a b"))),
    ],
)  # fmt: skip
def test_every_form_is_parsed(text: str, expected: ModelReference) -> None:
    assert parse_model(text) == expected


def test_relative_directory_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_model("bundle").directory == tmp_path / "bundle"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:/flights", r"names neither a version nor an alias; write models:/flights/1, models:/flights@champion"),
        ("models:/flights/three", "is not the name of a registered model; it may be NAME, NAME/VERSION or NAME@ALIAS"),
        ("models:/", "is not the name of a registered model"),
        ("runs:/abc", "runs:/abc: is not the name of a model; it may be a bundle's directory, models:/NAME/VERSION"),
        ("s3://bucket/bundle", "is not the name of a model"),
        ("", "an empty text: is not the name of a model"),
    ],
)
def test_other_texts_are_refused_with_the_forms(text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        parse_model(text)


def test_registered_model_needs_no_prefix() -> None:
    assert parse_registered("flights") == ModelReference("models:/flights", name="flights")
    assert parse_registered("flights@champion") == parse_model("models:/flights@champion")
    assert parse_registered("models:/flights/3").version == "3"
