"""The form of a model: every kind of raw column has its control, its example and its hint."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from farandole.preprocess import Preprocessing
from farandole.serving.page.fields import MAX_SELECTED, MAX_SUGGESTED, FormField, Pixels, form_fields
from tests.support.page_models import DOCUMENTS, EVIL, EVIL_VALUE, digits, fit, mixed, mixed_rows, reviews


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return mixed()


@pytest.fixture(scope="module")
def fields(preprocessing: Preprocessing) -> dict[str, FormField]:
    return {field.column: field for field in form_fields(preprocessing)}


def test_every_raw_column_has_one_field_in_order(preprocessing: Preprocessing, fields: dict[str, FormField]) -> None:
    assert tuple(fields) == preprocessing.columns


@pytest.mark.parametrize(
    ("column", "control", "sends"),
    [
        ("width", "number", "number"),
        ("age", "number", "number"),
        ("price", "number", "text"),
        ("member", "boolean", "boolean"),
        ("colour", "select", "text"),
        ("grade", "select", "number"),
        ("town", "suggest", "text"),
        ("code", "line", "text"),
        ("born", "date", "text"),
        ("seen", "time", "instant"),
        ("local", "time", "text"),
        ("notes", "text", "text"),
        ("vector", "list", "json"),
        ("raw", "file", "base64"),
        ("picture", "image", "base64"),
        (EVIL, "number", "number"),
    ],
)
def test_a_column_has_the_control_of_its_kind(
    fields: dict[str, FormField], column: str, control: str, sends: str
) -> None:
    assert (fields[column].control, fields[column].sends) == (control, sends)


def _value(field: FormField) -> Any:
    """Return the value that the example of a field becomes in a request."""
    if field.example is None or field.sends in ("text", "base64"):
        return field.example
    return f"{field.example}Z" if field.sends == "instant" else json.loads(field.example)


@pytest.mark.parametrize("made", [mixed, reviews])
def test_examples_are_accepted_as_a_row(made: Any) -> None:
    preprocessing = made()
    row = {field.column: [_value(field)] for field in form_fields(preprocessing)}
    features = preprocessing.features(preprocessing.raw_batch(row))
    assert all(len(values) == 1 for values in features.values())


def test_categories_to_select_are_in_the_order_of_people(fields: dict[str, FormField]) -> None:
    assert fields["grade"].options == ("1", "2", "3", "4", "5")
    assert fields["colour"].options == (EVIL_VALUE, "blue", "green", "red")
    assert fields["colour"].hint == "one of 4 known values"


def test_many_categories_are_suggested_the_most_frequent_first(
    preprocessing: Preprocessing, fields: dict[str, FormField]
) -> None:
    town = next(transform for transform in preprocessing.transforms if transform.column == "town")
    assert MAX_SELECTED < len(fields["town"].options) < MAX_SUGGESTED
    assert list(fields["town"].options) == town.to_dict()["vocabulary"]
    assert fields["town"].example == fields["town"].options[0]


def test_very_many_categories_are_cut_off_and_counted() -> None:
    values = [f"v{index:04}" for index in range(MAX_SUGGESTED + 500)]
    column = {"id": ("string", {"kind": "categorical"})}
    label = [float(index) for index in range(len(values))]
    (field,) = form_fields(fit(column, {"id": values}, label, column="y", kind="regression"))
    assert len(field.options) == MAX_SUGGESTED
    assert field.hint == "one of 1,500 known values, the 1,000 most frequent are suggested"


def test_the_range_of_training_is_a_hint(preprocessing: Preprocessing) -> None:
    found = {each.column: each for each in form_fields(preprocessing, None, DOCUMENTS["statistics.json"]["columns"])}
    assert found["width"].hint == "number, training mostly saw 2.5 to 17.25"
    assert found["age"].hint == "whole number"


@pytest.mark.parametrize(
    "statistics",
    [{"kind": "number"}, {"kind": "number", "edges": [1]}, {"kind": "number", "edges": [None, float("inf"), 3]}, {}],
)
def test_statistics_without_a_finite_range_give_no_hint(
    preprocessing: Preprocessing, statistics: dict[str, Any]
) -> None:
    assert form_fields(preprocessing, None, {"width": statistics})[0].hint == "number"


def test_an_image_shows_what_the_model_reads(fields: dict[str, FormField]) -> None:
    field = fields["picture"]
    assert field.pixels == Pixels(8, 8, 3, planar=False, fit="crop")
    assert field.hint == "image file, resized to 8 by 8 pixels in color"
    with Image.open(io.BytesIO(base64.b64decode(field.example or ""))) as example:
        assert example.size == (8, 8)


def test_raw_pixels_are_made_from_an_image_file() -> None:
    (field,) = form_fields(digits())
    assert (field.control, field.sends, field.example) == ("pixels", "json", None)
    assert field.pixels == Pixels(12, 8, 1, planar=False, fit="crop")
    assert field.hint == "image file, resized to 8 by 12 pixels gray"


def test_nested_lists_of_pixels_are_entered_as_json() -> None:
    column = {"image": ("array<array<int>>", {"kind": "image", "pixels": "hwc", "size": [2, 2], "mode": "gray"})}
    rows = {"image": [[[0, 1], [2, 3]]] * 4}
    (field,) = form_fields(fit(column, rows, [1.0, 2.0, 3.0, 4.0], column="y", kind="regression"))
    assert (field.control, field.sends) == ("list", "json")


def test_a_column_that_is_a_number_and_a_category_is_entered_as_a_number() -> None:
    rows = mixed_rows()
    fitted = fit({"grade": ("int", {"kind": "numeric"})}, rows, rows["width"], column="y", kind="regression")
    both = fit({"grade": ("int", {"kind": "categorical"})}, rows, rows["width"], column="y", kind="regression")
    transforms = Preprocessing((*both.transforms, *fitted.transforms), fitted.label, fitted.types)
    (field,) = form_fields(transforms)
    assert (field.control, field.options, field.hint) == ("number", (), "whole number")


def test_columns_of_sources_that_no_feature_reads_directly_have_the_control_of_their_type(
    preprocessing: Preprocessing,
) -> None:
    columns = {"year": "int", "tail": "string", "time": "timestamp", "late": "boolean", "list": "array<int>"}
    found = form_fields(preprocessing, columns)
    assert [field.column for field in found] == list(columns)
    assert [field.control for field in found] == ["number", "line", "time", "boolean", "list"]
    assert all(field.example is None for field in found)


def test_a_source_column_with_the_name_of_a_feature_but_another_type_is_another_column(
    preprocessing: Preprocessing,
) -> None:
    (field,) = form_fields(preprocessing, {"colour": "int"})
    assert (field.control, field.options, field.example) == ("number", (), None)


def test_many_fields_share_the_suggestions_of_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farandole.serving.page.fields.MAX_ALL_SUGGESTED", 120)
    values = [f"v{index}" for index in range(200)]
    columns = {name: ("string", {"kind": "categorical"}) for name in ("a", "b")}
    label = [float(index) for index in range(len(values))]
    found = form_fields(fit(columns, dict.fromkeys(columns, values), label, column="y", kind="regression"))
    assert [len(field.options) for field in found] == [60, 60]
    assert found[0].hint == "one of 200 known values, the 60 most frequent are suggested"
