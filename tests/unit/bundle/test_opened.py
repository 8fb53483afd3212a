"""A bundle gives back what was written into it."""

from __future__ import annotations

import io
import json
import pickletools
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from farandole.bundle import Bundle, add_form, open_bundle, write_bundle
from farandole.errors import BundleError, DataError
from farandole.preprocess import RawForm
from tests.support.bundles import OPTIONS, ROWS, contents, fitted, small_network, write_small_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("made") / "bundle")


def _members(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file, and every member of it if it is an archive, and of these."""
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _members(f"{name}/{member}", archive.read(member))


def _is_pickle(content: bytes) -> bool:
    """Return whether the content is a whole pickle of more than an opcode."""
    try:
        return len(list(pickletools.genops(content))) > 1
    except Exception:  # noqa: BLE001 - whatever the opcodes of other content lead to
        return False


def test_nothing_in_a_bundle_is_a_pickle(folder: Path) -> None:
    seen = [
        (name, content)
        for path in folder.rglob("*")
        if path.is_file()
        for name, content in _members(path.name, path.read_bytes())
    ]
    assert len(seen) > 15
    assert [name for name, content in seen if _is_pickle(content)] == []
    archive = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, archive)
    assert any(_is_pickle(content) for _, content in _members("old.pt", archive.getvalue()))


def test_the_opened_bundle_describes_the_model(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.name == "small"
    assert bundle.forms == ("eager", "program")
    assert bundle.default_form == "eager"
    assert bundle.label.classes == ("false", "true")
    assert bundle.model["options"] == OPTIONS
    assert bundle.model["columns"] == {"size": "double", "colour": "string"}
    assert not bundle.needs_code
    assert bundle.preprocessing.to_dict() == fitted().to_dict()
    with pytest.raises(BundleError, match=r"has no readable metrics\.json"):
        bundle.read_json("metrics.json")
    with pytest.raises(BundleError, match="has no form 'onnx' of the network; it has eager, program"):
        bundle.predictor("onnx")


@pytest.mark.parametrize("form", ["eager", "program"])
def test_each_form_computes_what_the_network_computes(folder: Path, form: str) -> None:
    predictor = open_bundle(folder).predictor(form)
    features = predictor.features(predictor.raw_batch(ROWS))
    with torch.no_grad():
        expected = small_network(fitted())(**{name: torch.from_numpy(values) for name, values in features.items()})
    np.testing.assert_allclose(predictor.outputs(features), expected.numpy(), atol=1e-6)
    alone = predictor.outputs({name: values[2:3] for name, values in features.items()})
    np.testing.assert_array_equal(alone, predictor.outputs(features)[2:3])
    assert predictor.outputs({name: values[:0] for name, values in features.items()}).shape == (0, 1)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_predictions_have_the_columns_of_their_kind(kind: str) -> None:
    preprocessing = fitted(kind)
    from farandole.bundle.predictor import predictions

    label = preprocessing.schema.target
    outputs = np.array([[-800.0] * label.num_outputs, [2.0] + [1.0] * (label.num_outputs - 1)], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = predictions(outputs, label)
    if kind == "binary":
        assert found["prediction"].tolist() == ["false", "true"]
        np.testing.assert_allclose(found["probability"], torch.tensor([-800.0, 2.0]).double().sigmoid())
    elif kind == "multiclass":
        assert list(found) == ["prediction", "probability_a", "probability_b", "probability_c"]
        np.testing.assert_allclose(found["probability_a"], [1 / 3, np.e / (np.e + 2)])
        assert found["prediction"].tolist() == ["a", "a"]
    else:
        np.testing.assert_array_equal(found["prediction"], label.in_units(outputs[:, 0]))


def test_a_wrong_value_is_named_with_its_row_column_and_rule(folder: Path) -> None:
    predictor = open_bundle(folder).predictor()
    rows = {"size": ["1", "2", "3", "much", "5"], "colour": ["red"] * 5}
    with pytest.raises(DataError) as caught:
        predictor.raw_batch(rows)
    assert str(caught.value).startswith("row 3: column size: 'much' is not double (1 of 5 rows)")
    with pytest.raises(DataError, match=r"^column colour: is missing"):
        predictor.raw_batch({"size": [1.0]})
    with pytest.raises(DataError, match=r"^row 0: column size"):
        predictor.raw_batch({"size": [b"\xff"], "colour": ["red"]})


def test_spellings_of_the_sources_reach_the_predictor(tmp_path: Path) -> None:
    preprocessing = fitted()
    forms = {"size": RawForm(null_values=("NA",))}
    write_bundle(tmp_path / "b", small_network(preprocessing), contents(preprocessing, row_forms=forms))
    predictor = open_bundle(tmp_path / "b").predictor()
    assert predictor.raw_batch({"size": ["NA", "1"], "colour": ["red", "red"]}).column(0).to_pylist() == [None, 1.0]


def test_a_form_is_added_and_the_manifest_follows(tmp_path: Path) -> None:
    folder = write_small_bundle(tmp_path / "b")
    before = open_bundle(folder).digest
    (tmp_path / "other").write_bytes(b"abc")
    add_form(folder, "int8", {"a.onnx": b"xyz", "b.onnx": tmp_path / "other"}, {"file": "a.onnx", "tolerance": 0.1})
    after = open_bundle(folder)
    assert after.digest != before
    assert after.model["forms"]["int8"] == {"file": "a.onnx", "tolerance": 0.1}
    assert (folder / "b.onnx").read_bytes() == b"abc"


def test_an_existing_directory_is_not_replaced(folder: Path) -> None:
    with pytest.raises(BundleError, match="exists already"):
        write_small_bundle(folder)


class _Branching(torch.nn.Module):
    """A network that torch.export cannot follow."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.inner(**groups)
        return outputs if float(groups["dense"].sum()) > -1e9 else -outputs


BUILDER = """
import torch
from farandole.models import mlp

class Branching(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, **groups):
        outputs = self.inner(**groups)
        return outputs if float(groups["dense"].sum()) > -1e9 else -outputs

def build(schema, **options):
    return Branching(mlp.build(schema, **options))
"""


def test_a_network_that_needs_code_says_so_and_runs_only_with_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # Python's default
    module = tmp_path / "branching_for_bundles.py"
    module.write_text(BUILDER)
    preprocessing = fitted()
    inner = small_network(preprocessing)
    made = contents(preprocessing, builder="branching_for_bundles:build", code=(module,))
    problem = write_bundle(tmp_path / "b", _Branching(inner), made)
    assert problem is not None
    bundle = open_bundle(tmp_path / "b")
    assert bundle.forms == ("eager",)
    assert bundle.needs_code
    assert bundle.model["code"] == ["branching_for_bundles.py"]
    with pytest.raises(BundleError, match="needs the code of branching_for_bundles:build"):
        bundle.predictor()
    predictor = bundle.predictor(run_code=True)
    features = predictor.features(predictor.raw_batch(ROWS))
    with torch.no_grad():
        expected = inner(**{name: torch.from_numpy(values) for name, values in features.items()})
    np.testing.assert_allclose(predictor.outputs(features), expected.numpy(), atol=1e-6)
    assert open_bundle(tmp_path / "b").digest == bundle.digest  # Python wrote nothing beside the module


def test_weights_that_do_not_fit_are_an_error_of_the_bundle(tmp_path: Path) -> None:
    folder = write_small_bundle(tmp_path / "b")
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**document, "options": {"hidden": [3]}}))
    from farandole.bundle.manifest import write_manifest

    write_manifest(folder, "small")
    with pytest.raises(BundleError, match=r"the builder farandole\.models\.mlp:build does not rebuild the network"):
        open_bundle(folder).predictor()


def _protected(folder: Path, policies: dict[str, object]) -> Bundle:
    """Write a bundle of a job with privacy policies."""
    privacy: dict[str, object] = {"columns": policies}
    if any(policy == {"policy": "pseudonymise"} for policy in policies.values()):
        privacy["key"] = {"environment": "KEY_OF_A_TEST"}
    preprocessing = fitted()
    documents = {"lineage.json": {"job": {"data": {"privacy": privacy}}}}
    assert write_bundle(folder, small_network(preprocessing), contents(preprocessing, documents=documents)) is None
    return open_bundle(folder)


def test_rows_pass_the_policies_of_the_training(tmp_path: Path) -> None:
    bundle = _protected(tmp_path / "bundle", {"size": {"policy": "generalise", "width": 2}})
    predictor = bundle.predictor()
    raw = {"size": [1.5, 3.0, None, -0.5], "colour": ["red", "blue", "green", None]}
    protected = {**raw, "size": [0.0, 2.0, None, -2.0]}
    assert predictor.raw_batch(raw) == predictor.raw_batch(protected)
    assert predictor.predict(raw)["probability"].tolist() == predictor.predict(protected)["probability"].tolist()
    plain = write_small_bundle(tmp_path / "plain")
    assert open_bundle(plain).predictor().raw_batch(raw) != predictor.raw_batch(raw)


def test_raw_value_of_a_pseudonymised_column_is_refused_with_its_row(tmp_path: Path) -> None:
    bundle = _protected(tmp_path / "bundle", {"colour": {"policy": "pseudonymise"}, "other": {"policy": "drop"}})
    predictor = bundle.predictor()
    assert predictor.raw_batch({"size": [1.0, 2.0], "colour": [None, "0" * 32]}).num_rows == 2
    with pytest.raises(DataError, match=r"^row 1: column colour: a value is not protected as in training") as caught:
        predictor.predict({"size": [1.0, 2.0], "colour": [None, "reddish"]})
    assert "reddish" not in str(caught.value)
    assert bundle.preprocessing.example()["colour"] == [None]


def test_policies_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"lineage\.json holds privacy policies that cannot be read"):
        _ = _protected(tmp_path / "bundle", {"size": {"policy": "unknown"}}).preprocessing
