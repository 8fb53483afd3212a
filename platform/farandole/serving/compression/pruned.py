"""Pruned models: at once, or with a training of the remaining weights by the ordinary trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.bundle import Bundle, BundleContents, open_bundle, write_bundle
from farandole.bundle.documents import CARD, LINEAGE, METRICS, STATISTICS
from farandole.bundle.export import export_bundle
from farandole.bundle.pruning import apply_masks, magnitude_masks
from farandole.bundle.write import OWN_BUILDERS
from farandole.errors import BundleError, UserError
from farandole.events import EventHandler
from farandole.serving.registry.runs import ALL_FIELDS, read_json
from farandole.spec import Job, parse_job
from farandole.tracking.model_store.bundles import FetchedBundle, fetch

_NOT_INHERITED = ("distill", "prune", "explain", "profile", "checkpoint")
"""Settings of the model's training that a training of its pruned form does not have."""


@dataclass(frozen=True)
class PrunedBundle:
    """A pruned model.

    Args:
        path: Its bundle.
        run_id: The MLflow run that trained the remaining weights; None: none did.
    """

    path: Path
    run_id: str | None = None


def prune_at_once(bundle: Bundle, share: float, scratch: Path, on_event: EventHandler) -> PrunedBundle:
    """Set the smallest weights of a model to 0, and train nothing.

    Args:
        bundle: The model.
        share: The share of the weights in matrices that becomes 0.
        scratch: An empty directory.
        on_event: Receives warnings.

    Raises:
        BundleError: The network needs the code of a user.
    """
    _require_own_builder(bundle)
    network = bundle.network()
    apply_masks(network, magnitude_masks(network, share))
    lineage = {**bundle.read_json(LINEAGE), "pruned_from": {"digest": bundle.digest, "share": share}}
    kept = {name: bundle.read_json(name) for name in (STATISTICS, METRICS) if bundle.has(name)}
    kept[METRICS] = {key: value for key, value in kept.get(METRICS, {}).items() if key not in ("test", "validation")}
    contents = BundleContents(
        name=bundle.name,
        builder=bundle.model["builder"],
        options=bundle.model["options"],
        preprocessing=bundle.preprocessing,
        row_forms=bundle.row_forms,
        documents={**kept, LINEAGE: lineage, CARD: f"# {bundle.name}\n"},  # measured and written by the export
    )
    write_bundle(scratch / "pruned", network, contents)
    export_bundle(scratch / "pruned", scratch / "exported", onnx=False, on_event=on_event)
    return PrunedBundle(scratch / "exported")


def prune_and_train(
    model: str, fetched: FetchedBundle, share: float, epochs: int, dataset: str, on_event: EventHandler
) -> PrunedBundle:
    """Prune a model, and train the remaining weights as the model was trained, for a number of epochs.

    Args:
        model: The model, as it was named.
        fetched: Its bundle.
        share: The share of the weights in matrices that becomes 0.
        epochs: The number of epochs.
        dataset: The dataset directory.
        on_event: Receives the progress of the training.

    Raises:
        BundleError: The network needs the code of a user, or the job of the model is not known.
        JobFailedError: The training failed.
    """
    from farandole import pipeline

    bundle = open_bundle(fetched.path)
    _require_own_builder(bundle)
    job = _fine_tuning_job(_job_of(fetched, bundle), model, bundle, share, epochs, dataset)
    checked = pipeline.check(job, ["train"], on_event=on_event)
    trained = pipeline.train(
        checked, pipeline.load_prepared(checked, on_event, warn_if_stale=False), on_event, register=False
    )
    return PrunedBundle(fetch(trained.model_uri, on_event).path, trained.training.mlflow_run_id)


def _require_own_builder(bundle: Bundle) -> None:
    builder = bundle.model["builder"]
    if not builder.startswith(OWN_BUILDERS):
        raise BundleError(
            f"{bundle.path}: the network is built by {builder}, whose code is not here; prune it by `train.prune` in"
            " its own job file"
        )


def _job_of(fetched: FetchedBundle, bundle: Bundle) -> dict[str, Any]:
    """Return the job that trained a model, as plain data: with all fields from MLflow, or from its lineage."""
    if fetched.run_id is not None:
        from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

        document = read_json(Registry(), fetched.run_id, ALL_FIELDS)
        if document:
            return document
    document = bundle.read_json(LINEAGE).get("job")
    if not document:
        raise BundleError(f"{bundle.path}: its {LINEAGE} names no job; prune it by `train.prune` in a job file")
    return dict(document)


def _fine_tuning_job(raw: dict[str, Any], model: str, bundle: Bundle, share: float, epochs: int, dataset: str) -> Job:
    """Return the job that trains the remaining weights; its optimizer and schedule are those of the first training.

    A short training with the whole schedule restores more than one at the last learning rates (Renda, Frankle and
    Carbin 2020, arXiv 2003.02389).
    """
    train = {name: value for name, value in (raw.get("train") or {}).items() if name not in _NOT_INHERITED}
    train |= {
        "epochs": epochs,
        "baseline": "off",
        "prune": {"model": model, "share": share, "digest": bundle.digest},
    }
    kept = {name: value for name, value in raw.items() if name in ("name", "data", "model", "tracking", "resources")}
    resources = {**(raw.get("resources") or {}), "hosts": None}
    kept |= {"train": train, "data": {**raw["data"], "output": dataset}, "resources": resources}
    kept["model"] = {"builder": bundle.model["builder"], "options": bundle.model["options"]}
    return parse_job(kept, origin="models compress --prune")


def check_share(share: float, epochs: int) -> None:
    """Check the arguments of a pruning.

    Raises:
        UserError: One is out of its range.
    """
    if not 0 < share < 1:
        raise UserError(f"--prune {share:g}: is the share of weights that become 0; use a number between 0 and 1")
    if epochs < 0:
        raise UserError(f"--epochs {epochs}: is a number of epochs; use 0 to train nothing, or more")
