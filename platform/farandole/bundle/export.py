"""Export of a model's bundle: with an ONNX graph, compared forms, intervals, and metrics of parts of the test split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farandole.bundle.documents import CARD, LINEAGE, METRICS, STATISTICS, write_card
from farandole.bundle.manifest import MANIFEST, SIGNATURE, digest_of, write_manifest
from farandole.bundle.opened import Bundle, open_bundle
from farandole.bundle.signing import sign
from farandole.bundle.slices import measure, measure_slices
from farandole.bundle.statistics import training_statistics
from farandole.bundle.write import MODEL
from farandole.errors import BundleError, FarandoleError, UserError
from farandole.events import EventHandler, Message, ignore_event
from farandole.process.atomic import atomic_directory
from farandole.process.json_text import json_text
from farandole.shards import LABEL, Dataset
from farandole.spec import METRICS as METRIC_NAMES

REPLICATES = 1000
TOLERANCE = 1e-4
"""Largest difference between the outputs of a form and those of `eager`, in units of the outputs."""
_GENERATED_ROWS, _COMPARED_ROWS = 256, 2048
_UNITS = {"image": (0, 256), "mask": (0, 2)}


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle that was exported.

    Args:
        path: Its directory.
        digest: Its digest.
        name: Name of the model.
        forms: Form of the network to the largest difference of its outputs from those of `eager`, or of the first form.
        left_out: Form that was not written to the reason.
        test_rows: Rows of the test split that were evaluated again; 0: the dataset is not at hand.
        key_id: Id of the key that signed the bundle.
    """

    path: str
    digest: str
    name: str
    forms: dict[str, float]
    left_out: dict[str, str] = field(default_factory=dict)
    test_rows: int = 0
    key_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def export_bundle(
    source: Path,
    directory: Path,
    *,
    onnx: bool = True,
    sign_key: Path | None = None,
    extend: Callable[[Path], None] | None = None,
    on_event: EventHandler = ignore_event,
) -> ExportedBundle:
    """Copy a bundle, and add what takes too long at the end of a training.

    Args:
        source: The bundle that the training wrote.
        directory: The new bundle's directory, which must not exist.
        onnx: Whether to add an ONNX graph.
        sign_key: PEM file of the Ed25519 key to sign with.
        extend: Adds files to the draft of the bundle, before its manifest is written.
        on_event: Receives messages and warnings.

    Raises:
        BundleError: The source is damaged, the directory exists, or a form differs from the others.
        UnavailableError: The libraries for ONNX are not installed.
    """
    bundle = open_bundle(source)
    if directory.exists():
        raise BundleError(f"{directory}: exists already; name a new directory with -o")
    with atomic_directory(directory) as draft:
        shutil.copytree(bundle.path, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST, SIGNATURE))
        write_manifest(draft, bundle.name)
        copy = open_bundle(draft)
        test = _read_test_rows(copy, on_event)
        left_out = _add_onnx(copy, draft) if onnx else {}
        forms = _compare_forms(draft, test)
        if test is not None:
            _add_measurements(copy, draft, *test)
        if extend is not None:
            extend(draft)
        write_manifest(draft, bundle.name)
        key_id = sign(draft, sign_key) if sign_key is not None else None
    for form, reason in left_out.items():
        on_event(Message(f"the form {form} is left out: {reason}", level="warning"))
    content = (directory / MANIFEST).read_bytes()
    rows = len(test[1]) if test is not None else 0
    return ExportedBundle(str(directory), digest_of(content), bundle.name, forms, left_out, rows, key_id)


def generated_features(bundle: Bundle, rows: int = _GENERATED_ROWS) -> dict[str, np.ndarray]:
    """Return random features that a network of this bundle accepts; the same at every call."""
    random, features = np.random.default_rng(0), dict[str, np.ndarray]()
    for group in bundle.schema.groups:
        shape = (rows, *group.shape)
        values: np.ndarray
        if group.kind == "ids":
            values = np.stack([random.integers(0, count, rows) for count in group.cardinalities], axis=1)
        elif group.kind == "tokens":
            values = random.integers(0, group.cardinalities[0], shape)
        elif group.kind in _UNITS:
            values = random.integers(*_UNITS[group.kind], shape)
        else:
            values = random.standard_normal(shape)
        features[group.name] = values.astype(group.dtype)
    return features


def _add_onnx(bundle: Bundle, folder: Path) -> dict[str, str]:
    """Write the ONNX graph into a bundle; returns why there is none."""
    from farandole.bundle.onnx_form import ONNX, save_onnx

    try:
        network = bundle.network()
    except BundleError as error:
        return {"onnx": str(error)}
    example = bundle.preprocessing.features(bundle.preprocessing.raw_batch(bundle.preprocessing.example()))
    try:
        save_onnx(network, example, folder / ONNX)
    except FarandoleError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever torch raises for a network that ONNX cannot express
        return {"onnx": " ".join(f"torch cannot translate the network: {error}".split())[:300]}
    document = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    document["forms"]["onnx"] = {"file": ONNX}
    _write(folder, MODEL, document)
    write_manifest(folder, bundle.name)
    return {}


def _compare_forms(folder: Path, test: tuple[dict[str, np.ndarray], np.ndarray] | None) -> dict[str, float]:
    """Compare the outputs of all forms, and state tolerance and largest difference in `model.json`.

    Raises:
        BundleError: A form differs by more than the tolerance.
    """
    bundle = open_bundle(folder)
    sets = [generated_features(bundle)]
    if test is not None:
        sets.append({name: values[:_COMPARED_ROWS] for name, values in test[0].items()})
    names = [name for name in ("eager", "program", "onnx", "int8") if name in bundle.forms]
    reference = names[0]
    if bundle.needs_code:
        return {reference: 0.0}
    expected = [bundle.predictor(reference).outputs(features) for features in sets]
    document = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    found: dict[str, float] = {reference: 0.0}
    for name in names[1:]:
        predictor = bundle.predictor(name)
        outputs = [predictor.outputs(features) for features in sets]
        found[name] = max(float(np.abs(a - b).max()) for a, b in zip(outputs, expected, strict=True))
        entry = document["forms"][name]
        entry.setdefault("tolerance", TOLERANCE)
        entry["compared"] = {"with": reference, "rows": sum(map(len, outputs)), "largest_difference": found[name]}
        if not found[name] <= entry["tolerance"]:
            raise BundleError(
                f"{folder.name}: the form {name} differs from {reference} by up to {found[name]:.2g}, more than the"
                f" tolerance of {entry['tolerance']:g}; export without it (--no-onnx), or change the network"
            )
    _write(folder, MODEL, document)
    return found


def _read_test_rows(bundle: Bundle, on_event: EventHandler) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Return features and label of the test split; None if the dataset of the training is not at hand."""
    try:
        recorded = bundle.read_json(LINEAGE)["dataset"]
        dataset = Dataset(recorded["path"])
        if dataset.manifest.digest != recorded["digest"]:
            raise UserError(f"{recorded['path']}: was prepared again since")
        reader = dataset.split("test")
        blocks = [reader.block(number) for number in range(len(reader.block_rows))]
    except (FarandoleError, KeyError, TypeError, OSError) as error:
        text = f"the test split is not at hand, so intervals and parts stay as the training left them ({error})"
        on_event(Message(text, level="warning"))
        return None
    if not blocks or bundle.needs_code:
        return None
    rows = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return {name: values for name, values in rows.items() if name != LABEL}, rows[LABEL]


def _add_measurements(bundle: Bundle, folder: Path, features: Mapping[str, np.ndarray], label: np.ndarray) -> None:
    """Evaluate the test split again, and write metrics, statistics and card."""
    target, names = bundle.label, METRIC_NAMES[bundle.label.kind]
    outputs = bundle.predictor().outputs(features)
    if target.kind == "regression":
        outputs, label = target.in_units(outputs), target.in_units(label)
    metrics: dict[str, Any] = dict(bundle.read_json(METRICS))
    metrics["test"] = {**metrics.get("test", {}), **measure(names, outputs, label, target, REPLICATES)}
    metrics["replicates"] = REPLICATES
    metrics["slices"] = measure_slices(names, dict(features), outputs, label, bundle.preprocessing, REPLICATES)
    _write(folder, METRICS, metrics)
    lineage = bundle.read_json(LINEAGE)
    _write(folder, STATISTICS, training_statistics(Dataset(lineage["dataset"]["path"]).manifest, outputs))
    (folder / CARD).write_text(write_card(bundle.name, metrics, lineage), encoding="utf-8")


def _write(folder: Path, name: str, document: Any) -> None:
    (folder / name).write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
