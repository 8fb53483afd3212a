"""A bundle as the page shows it, also one that lacks card, metrics and lineage."""

from __future__ import annotations

from pathlib import Path

from farandole.bundle import open_bundle
from farandole.serving.page import ShownModel
from tests.support.page_models import EVIL_VALUE, digits, mixed, reviews, write_without_network


def test_the_view_names_version_digest_and_classes(tmp_path: Path) -> None:
    write_without_network(tmp_path / "mixed", "mixed", mixed())
    bundle = open_bundle(tmp_path / "mixed")
    view = ShownModel("served as", bundle, "3").view
    assert (view["name"], view["version"], view["digest"]) == ("served as", "3", bundle.digest)
    assert view["label"] == {"column": "answer", "kind": "binary", "classes": ("no", EVIL_VALUE)}
    assert view["fields"][0].hint == "number, training mostly saw 2.5 to 17.25"
    assert view["card"].startswith("<h3>The model</h3>")
    assert "table" in view["metrics"]
    assert view["lineage"]["pairs"][0][0] == "job"


def test_a_bundle_without_documents_has_a_form_all_the_same(tmp_path: Path) -> None:
    write_without_network(tmp_path / "digits", "digits", digits(), **{"rows.json": {}})
    view = ShownModel("digits", open_bundle(tmp_path / "digits")).view
    assert (view["card"], view["metrics"], view["lineage"], view["version"]) == (None, None, None, None)
    assert [field.column for field in view["fields"]] == ["pixels"]


def test_the_form_takes_the_columns_of_the_source_if_the_query_travels(tmp_path: Path) -> None:
    write_without_network(tmp_path / "reviews", "reviews", reviews())
    shown = ShownModel("reviews", open_bundle(tmp_path / "reviews"), columns={"line": "string", "stars": "int"})
    assert [field.column for field in shown.fields] == ["line", "stars"]
