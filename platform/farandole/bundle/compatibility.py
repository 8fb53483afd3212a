"""Checks that a trained model can read the rows of a job: a teacher of its network, or a network to prune.

Shards hold features, not raw columns. So the model must have been trained on the same features, with the same learned
values: another mean or another vocabulary would give it other numbers than those that it knows.
"""

from __future__ import annotations

from typing import Any

from farandole.bundle.opened import Bundle
from farandole.errors import ModelError
from farandole.preprocess import Preprocessing
from farandole.shards import LabelColumn
from farandole.spec import Job

_SHOWN = 60
"""Characters of a value in a message."""


def check_declared(bundle: Bundle, job: Job, field: str) -> None:
    """Compare a model with what a job file declares, before its dataset exists; what is left to guess is not compared.

    Args:
        bundle: The model.
        job: The job.
        field: Path of the field that names the model.

    Raises:
        ModelError: The label or a feature differs, or the model runs only with code that its bundle carries.
    """
    where = f"{field}: {bundle.name} ({bundle.digest[:15]})"
    label = job.data.label
    if label is not None:
        kind = bundle.label.kind if label.kind == "auto" else label.kind
        _check_label(bundle.label, label.column, kind, where)
    if not job.data.is_guessed:
        declared = Preprocessing.from_spec(job.data.model_copy(update={"label": None}))
        _check_features(bundle.preprocessing, declared, where, learned=False)
    if field.startswith("train.distill") and bundle.needs_code:
        raise ModelError(
            f"{where}: runs only with the code of {bundle.model['builder']}, since torch.export cannot follow it; use a"
            " teacher of farandole.models, or one whose bundle has the form `program`"
        )
    if field.startswith("train.prune"):
        _check_network(bundle, job, where)


def check_fitted(bundle: Bundle, found: Preprocessing, field: str) -> None:
    """Compare a model with the dataset of a job.

    Args:
        bundle: The model.
        found: The dataset's preprocessing.
        field: Path of the field that names the model.

    Raises:
        ModelError: The label, its classes, a feature, or what was learned for it differs.
    """
    where = f"{field}: {bundle.name} ({bundle.digest[:15]})"
    label = found.schema.target
    _check_label(bundle.label, label.column, label.kind, where)
    if bundle.label.classes != label.classes:
        raise ModelError(
            f"{where}: predicts the classes {_shorten(', '.join(bundle.label.classes))}, and the dataset has"
            f" {_shorten(', '.join(label.classes))}; both need the same ones in the same order: train the model on this"
            " dataset"
        )
    _check_features(bundle.preprocessing, found, where, learned=True)
    if field.startswith("train.prune") and bundle.preprocessing.to_dict() != found.to_dict():
        raise ModelError(
            f"{where}: was trained on other features than those of the dataset; a pruned network keeps its inputs:"
            " declare the same `data`"
        )


def _check_label(label: LabelColumn, column: str, kind: str, where: str) -> None:
    if (label.column, label.kind) != (column, kind):
        raise ModelError(
            f"{where}: predicts {label.column} ({label.kind}), and the job's label is {column} ({kind}); name a model"
            " of the same label"
        )


def _check_features(model: Preprocessing, found: Preprocessing, where: str, *, learned: bool) -> None:
    """Compare each feature that a model reads with the one of this name; features that it does not read may differ."""
    known = {transform.name: transform for transform in found.transforms}
    for transform in model.transforms:
        if transform.name not in known:
            raise ModelError(
                f"{where}: reads the feature {transform.name}, which the job does not have; declare it in"
                " data.features, or name a model without it"
            )
        given, wanted = transform.to_dict(), known[transform.name].to_dict()
        if not learned:
            given, wanted = ({name: each[name] for name in ("column", "spec")} for each in (given, wanted))
        difference = _difference(given, wanted)
        if difference is not None:
            remedy = (
                "train the model on this dataset, or set data.output to the one that it was trained on"
                if learned
                else "declare it in the same way"
            )
            raise ModelError(f"{where}: its feature {transform.name} has another {difference}; {remedy}")


def _check_network(bundle: Bundle, job: Job, where: str) -> None:
    given = {"builder": bundle.model["builder"], "options": bundle.model["options"]}
    wanted: dict[str, Any] = {"builder": job.network.builder, "options": job.network.options}
    wanted["options"] = {**given["options"], **wanted["options"]}  # a job file leaves options to their defaults
    difference = _difference(given, wanted)
    if difference is not None:
        raise ModelError(f"{where}: its network has another {difference}; a pruned network has the same `model` part")


def _difference(given: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Return the first field in which two documents differ, with both values; None if they are equal."""
    for name in given | wanted:
        if given.get(name) != wanted.get(name):
            return f"{name} ({_shorten(given.get(name))}, and the job has {_shorten(wanted.get(name))})"
    return None


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
