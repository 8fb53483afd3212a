"""Export of a bundle with an ONNX graph, measurements of the test split, and a signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from farandole.bundle import open_bundle, write_bundle
from farandole.bundle.documents import TrainingRecord, training_documents
from farandole.bundle.export import export_bundle
from farandole.bundle.signing import create_key
from farandole.errors import BundleError
from farandole.events import Event, Message
from farandole.shards import LABEL, Dataset, Manifest, ShardInfo, ShardWriter, content_digest, write_manifest
from farandole.spec import parse_job
from tests.support.bundles import ROWS, contents, fitted, small_network


def _dataset(folder: Path, rows: int = 300) -> Manifest:
    """Write a dataset with a test split of the small network's features."""
    preprocessing = fitted()
    features = preprocessing.features(preprocessing.raw_batch(ROWS))
    chosen = np.arange(rows) % len(ROWS["size"])
    columns = {name: values[chosen] for name, values in features.items()}
    columns[LABEL] = np.random.default_rng(0).integers(0, 2, rows).astype(np.int32)
    writer = ShardWriter(str(folder), "test", 0, preprocessing.schema, block_rows=100)
    writer.write(columns)
    splits: dict[str, tuple[ShardInfo, ...]] = {"test": (writer.close(),)}
    manifest = Manifest(
        digest=content_digest(preprocessing.schema, preprocessing.to_dict(), splits),
        columns=preprocessing.schema,
        splits=splits,
        preprocessing=preprocessing.to_dict(),
        statistics={},
        split_rule={},
        sources=(),
        request="key",
        code_version={},
    )
    write_manifest(str(folder), manifest)
    return manifest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bundle of a training whose dataset is at hand."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "dataset").mkdir()
    manifest = _dataset(folder / "dataset")
    document = {
        "name": "small",
        "data": {
            "sources": {"a": {"path": "/a.parquet"}},
            "features": {"size": {"kind": "numeric", "indicator": True}, "colour": {"kind": "categorical"}},
            "label": {"column": "y", "kind": "binary"},
            "output": str(folder / "dataset"),
        },
        "model": {"builder": "farandole.models.mlp:build"},
    }
    preprocessing = fitted()
    record = TrainingRecord(job=parse_job(document), manifest=manifest, metrics={"test": {"accuracy": 0.5}})
    made = contents(preprocessing, documents=training_documents(record))
    assert write_bundle(folder / "bundle", small_network(preprocessing), made) is None
    return folder / "bundle"


def test_an_export_has_compared_forms_measurements_and_a_signature(source: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    public = create_key(tmp_path / "key.pem")
    done = export_bundle(source, tmp_path / "out", sign_key=tmp_path / "key.pem", on_event=events.append)
    bundle = open_bundle(tmp_path / "out", public)
    assert bundle.digest == done.digest
    assert bundle.forms == ("eager", "program", "onnx")
    assert done.left_out == {}
    assert done.forms["onnx"] <= bundle.model["forms"]["onnx"]["tolerance"]
    assert bundle.model["forms"]["onnx"]["compared"]["rows"] == 256 + 300
    rows = {
        name: predictor.predict(ROWS)["probability"] for name in bundle.forms if (predictor := bundle.predictor(name))
    }
    np.testing.assert_allclose(rows["onnx"], rows["eager"], atol=1e-5)

    metrics = bundle.read_json("metrics.json")
    assert done.test_rows == 300
    assert metrics["replicates"] == 1000
    low, high = metrics["test"]["log_loss"]["interval"]
    assert low < metrics["test"]["log_loss"]["value"] < high
    assert {"colour", "size"} >= {entry["feature"] for entry in metrics["slices"]} != set()
    assert "## Where it is worst" in (tmp_path / "out" / "card.md").read_text()
    assert bundle.read_json("statistics.json")["predictions"]["probability"]["kind"] == "number"
    assert not [event for event in events if isinstance(event, Message)]


def test_without_its_dataset_a_bundle_is_exported_with_a_warning(source: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    dataset = Path(open_bundle(source).read_json("lineage.json")["dataset"]["path"])
    moved = dataset.rename(tmp_path / "elsewhere")
    try:
        done = export_bundle(source, tmp_path / "out", onnx=False, on_event=events.append)
    finally:
        moved.rename(dataset)
    assert Dataset(dataset).manifest.rows("test") == 300
    assert done.test_rows == 0
    assert open_bundle(tmp_path / "out").read_json("metrics.json")["test"] == {"accuracy": {"value": 0.5}}
    assert any("the test split is not at hand" in event.text for event in events if isinstance(event, Message))


def test_a_form_that_differs_is_not_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farandole.bundle.export.TOLERANCE", -1.0)
    with pytest.raises(BundleError, match=r"differs from eager by up to .* more than the tolerance"):
        export_bundle(source, tmp_path / "out", onnx=False)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_not_replaced(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="exists already; name a new directory with -o"):
        export_bundle(source, tmp_path)


def test_the_graph_accepts_any_number_of_rows(source: Path, tmp_path: Path) -> None:
    export_bundle(source, tmp_path / "out")
    bundle = open_bundle(tmp_path / "out")
    predictor = bundle.predictor("onnx")
    features = predictor.features(predictor.raw_batch(ROWS))
    with torch.no_grad():
        expected = small_network(fitted())(**{name: torch.from_numpy(values) for name, values in features.items()})
    for rows in (1, 2, 5):
        part = {name: values[:rows] for name, values in features.items()}
        np.testing.assert_allclose(predictor.outputs(part), expected[:rows].numpy(), atol=1e-5)
