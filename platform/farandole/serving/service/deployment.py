"""From the MODELs of the command line to the versions that are served, now and whenever it is asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from farandole.bundle import open_bundle
from farandole.errors import UserError
from farandole.events import EventHandler, ignore_event
from farandole.serving.registry import fetch, parse_model
from farandole.serving.service.settings import Deployment, Variant

_SHOWN_DIGEST = 12
_REGISTERED = "models:/"


@dataclass(frozen=True)
class DeploymentPlan:
    """The models and the split that the user asked for.

    Args:
        models: The MODELs.
        split: Label to share of the traffic; empty: the first version of each model answers.
        shadow: Labels of versions that only receive copies.
        public_key: The file of the key that the bundles must be signed with; None: they need not be signed.
        form: The form of the network that every bundle must have; None: any.
    """

    models: Sequence[str]
    split: Mapping[str, float]
    shadow: Sequence[str] = ()
    public_key: str | None = None
    form: str | None = None

    def resolve(self, on_event: EventHandler = ignore_event) -> Deployment:
        """Return the versions that the plan stands for now; their bundles are on this machine, and checked.

        Args:
            on_event: Receives a warning where MLflow does not answer and the last known bundle is used.

        Raises:
            FarandoleError: A model does not exist, its bundle is damaged, or the split does not fit.
        """
        found: dict[str, list[Variant]] = {}
        for source in self._sources():
            name, variant = self._find(source, on_event)
            found.setdefault(name, []).append(variant)
        used: set[str] = set()
        models = {name: self._weighted(name, variants, used) for name, variants in found.items()}
        unused = [label for label in (*self.split, *self.shadow) if label not in used]
        if unused:
            labels = ", ".join(variant.label for variants in found.values() for variant in variants)
            raise UserError(f"--split, --shadow: there is no version {unused[0]!r}; the versions are {labels}")
        return Deployment(0, models)

    def _sources(self) -> list[str]:
        """Return the MODELs; a registered model without version and alias stands for the aliases of the split."""
        sources: list[str] = []
        for model in self.models:
            rest = model.removeprefix(_REGISTERED)
            is_bare = model.startswith(_REGISTERED) and "@" not in rest and "/" not in rest
            labels = [*self.split, *(label for label in self.shadow if label not in self.split)]
            sources += [f"{model}@{label}" for label in labels] if is_bare and labels else [model]
        return list(dict.fromkeys(sources))

    def _find(self, source: str, on_event: EventHandler) -> tuple[str, Variant]:
        reference = parse_model(source)
        fetched = fetch(source, on_event)
        path = fetched.path.resolve()
        bundle = open_bundle(path, self.public_key)
        if self.form is not None and self.form not in bundle.forms:
            raise UserError(f"{source}: --form {self.form}: the bundle has {', '.join(bundle.forms)}")
        folder = reference.directory.name if reference.directory is not None else None
        version = fetched.version or bundle.digest.removeprefix("sha256:")[:_SHOWN_DIGEST]
        label = reference.alias or reference.version or folder or version
        return fetched.name or bundle.name, Variant(label, source, str(path), version)

    def _weighted(self, name: str, variants: list[Variant], used: set[str]) -> tuple[Variant, ...]:
        """Return the variants of one model with their shares."""
        labels = [variant.label for variant in variants]
        if len(set(labels)) < len(labels):
            raise UserError(f"{name}: two versions are called {labels[0]!r}; name a version once, or rename a folder")
        shares = {label: self.split[label] for label in labels if label in self.split}
        shadows = {label for label in labels if label in self.shadow}
        used.update(shares, shadows)
        if shares and sum(shares.values()) <= 0:
            raise UserError(f"--split: no version of {name} has a share above 0")
        if not shares:
            first = next((label for label in labels if label not in shadows), None)
            if first is None:
                raise UserError(f"--shadow: every version of {name} is a shadow; name one that answers as well")
            shares = {first: 1.0}
        total = sum(shares.values())
        return tuple(
            replace(each, weight=shares.get(each.label, 0.0) / total, is_shadow=each.label in shadows)
            for each in variants
        )


def is_same(first: Deployment, second: Deployment) -> bool:
    """Return whether two deployments serve the same, whatever their generation."""
    return first.models == second.models


def describe(deployment: Deployment) -> list[dict[str, Any]]:
    """Return the versions of a deployment for the log."""
    return [
        {"model": name, "version": each.version, "label": each.label, "weight": each.weight, "shadow": each.is_shadow}
        for name, variants in deployment.models.items()
        for each in variants
    ]
