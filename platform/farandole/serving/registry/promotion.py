"""Promotion: an alias moves to another version, if the gates that were asked for are passed.

The version that the alias leaves is kept under the alias `previous-ALIAS`, which a rollback promotes. MLflow cannot
move two aliases at once: the former version is noted first, so that it is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from farandole.errors import BundleError, RegistryError, UserError
from farandole.events import format_metric
from farandole.serving.registry.versions import ModelVersion, find_version
from farandole.spec import METRICS, metric_direction
from farandole.tracking.model_store.bundles import fetch_bundle
from farandole.tracking.model_store.reference import ModelReference, parse_registered

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import Registry

Gate = Literal["better", "signature", "explanation"]
GATES: tuple[Gate, ...] = ("better", "signature", "explanation")
CHAMPION = "champion"
_PREVIOUS = "previous-"
_EXPLANATIONS = "explanations"
_BUILT_IN = tuple(dict.fromkeys(name for names in METRICS.values() for name in names))


@dataclass(frozen=True)
class GateResult:
    """The outcome of one gate.

    Args:
        gate: `better`, `signature` or `explanation`.
        passed: Whether the version may pass.
        text: What was found, and what to do if the gate is not passed.
    """

    gate: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Promotion:
    """A planned or completed promotion.

    Args:
        name: The registered model.
        alias: The alias.
        former: The version that the alias stood for; None if the alias is new.
        version: The version that the alias stands for afterwards.
        gates: The outcomes of the gates.
        moved: Whether the alias was moved.
    """

    name: str
    alias: str
    former: str | None
    version: str
    gates: tuple[GateResult, ...] = ()
    moved: bool = False

    @property
    def passed(self) -> bool:
        """True if all gates are passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def is_needed(self) -> bool:
        """True if the alias stands for another version, or does not exist."""
        return self.former != self.version

    def to_dict(self) -> dict[str, Any]:
        """Return the promotion as plain data."""
        return {**asdict(self), "passed": self.passed}


def plan_promotion(
    name: str,
    version: str | None = None,
    *,
    alias: str = CHAMPION,
    rollback: bool = False,
    require: Sequence[str] = (),
    metric: str | None = None,
    public_key: str | Path | None = None,
) -> Promotion:
    """Return what a promotion would do, and whether its gates are passed; nothing is changed.

    Args:
        name: The registered model.
        version: The version, or `@ALIAS` for that of another alias.
        alias: The alias to move.
        rollback: Take the version that the alias stood for before its last move, instead of `version`.
        require: The gates: `better` (than the present version of the alias, on the same test rows), `signature` (of
            the bundle), `explanation` (a report of the model's explanation exists).
        metric: For `better`: the metric of the test split. Default: the primary metric of the kind of label.
        public_key: For `signature`: the file with the Ed25519 public key.

    Raises:
        RegistryError: There is no such model or version, or no version to return to.
        UserError: A gate lacks its argument, or does not exist.
        UnavailableError: MLflow does not answer.
    """
    from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

    _check_arguments(version, rollback=rollback, require=require, metric=metric, public_key=public_key)
    registry = Registry()
    aliases = {key: str(value) for key, value in registry.registered(name).aliases.items()}
    former = aliases.get(alias)
    if rollback:
        version = _previous_version(name, alias, aliases)
    chosen = find_version(registry, _version_reference(name, version or ""))
    gates = []
    for gate in GATES:
        if gate not in require:
            continue
        if gate == "better":
            gates.append(_check_better(registry, chosen, alias, former, metric))
        elif gate == "signature":
            gates.append(_check_signature(chosen, public_key or ""))
        else:
            gates.append(_check_explanation(registry, chosen))
    return Promotion(name, alias, former, chosen.version, tuple(gates))


def promote(plan: Promotion) -> Promotion:
    """Move the alias of a plan whose gates are passed, and return the completed promotion.

    Raises:
        UserError: A gate is not passed.
        RegistryError: The alias has moved since the plan was made, or its name is not allowed.
        UnavailableError: MLflow does not answer.
    """
    from farandole.tracking.model_store.connection import Registry

    if not plan.passed:
        failed = "; ".join(f"{gate.gate}: {gate.text}" for gate in plan.gates if not gate.passed)
        raise UserError(f"{plan.name}@{plan.alias} stays at {_shown(plan.former)}: {failed}")
    registry = Registry()
    present = registry.registered(plan.name).aliases.get(plan.alias)
    if plan.former != (None if present is None else str(present)):
        raise RegistryError(
            f"{plan.name}@{plan.alias}: stands for {_shown(present)} by now, and not for {_shown(plan.former)};"
            " somebody else has moved it: promote again if that is still right"
        )
    if not plan.is_needed:
        return plan
    with registry.errors():
        if plan.former is not None:
            registry.client.set_registered_model_alias(plan.name, f"{_PREVIOUS}{plan.alias}", plan.former)
        registry.client.set_registered_model_alias(plan.name, plan.alias, plan.version)
    return replace(plan, moved=True)


def _check_arguments(
    version: str | None,
    *,
    rollback: bool,
    require: Sequence[str],
    metric: str | None,
    public_key: str | Path | None,
) -> None:
    unknown = [gate for gate in require if gate not in GATES]
    if unknown:
        raise UserError(f"--require {unknown[0]}: is not a gate; the gates are {', '.join(GATES)}")
    if rollback and version is not None:
        raise UserError(f"--rollback: returns to the former version by itself; leave out the version {version}")
    if not rollback and version is None:
        raise UserError(
            "VERSION is missing; name the version to promote, or add --rollback to return to the former one"
        )
    if "signature" in require and not public_key:
        raise UserError("--require signature: needs the key that signed the bundle; add --public-key KEY.pem")
    if public_key and "signature" not in require:
        raise UserError("--public-key: is used by --require signature only; add it, or leave the key out")
    if metric is not None and "better" not in require:
        raise UserError("--metric: is used by --require better only; add it, or leave the metric out")


def _previous_version(name: str, alias: str, aliases: dict[str, str]) -> str:
    found = aliases.get(f"{_PREVIOUS}{alias}")
    if found is None:
        raise RegistryError(
            f"{name}@{alias}: there is no former version to return to; name one:"
            f" `farandole models promote {name} VERSION --alias {alias}`"
        )
    return found


def _version_reference(name: str, version: str) -> ModelReference:
    return parse_registered(f"{name}{version}" if version.startswith("@") else f"{name}/{version}")


def _check_better(
    registry: Registry, version: ModelVersion, alias: str, former: str | None, metric: str | None
) -> GateResult:
    """Compare a metric of the test split with that of the version that the alias stands for."""
    if former is None:
        return GateResult("better", True, f"@{alias} stands for no version yet")
    champion = find_version(registry, _version_reference(version.name, former))
    chosen = metric or _primary_metric(version)
    if chosen not in _BUILT_IN:
        return _failed("better", f"{chosen}: it is not known which direction is better; choose {', '.join(_BUILT_IN)}")
    mine, theirs = version.metrics.get(chosen), champion.metrics.get(chosen)
    for each, value in ((version, mine), (champion, theirs)):
        if value is None:
            names = ", ".join(sorted(each.metrics)) or "none"
            return _failed("better", f"version {each.version} has no metric test.{chosen}; it has {names}")
    if version.test_rows is None or version.test_rows != champion.test_rows:
        return _failed(
            "better",
            f"version {version.version} was measured on other test rows ({_short(version.test_rows)}) than version"
            f" {former} ({_short(champion.test_rows)}), so that their metrics cannot be compared; train both on one"
            " dataset, or promote without --require better",
        )
    is_lower = metric_direction(chosen, None, "metric") == "min"
    passed = (mine <= theirs) if is_lower else (mine >= theirs)  # type: ignore[operator]
    shown = f"{chosen} {format_metric(mine)} against {format_metric(theirs)} of version {former}"  # type: ignore[arg-type]
    if passed:
        return GateResult("better", True, shown)
    better = "lower" if is_lower else "higher"
    return _failed("better", f"{shown}, and {better} is better; promote another version, or without --require better")


def _primary_metric(version: ModelVersion) -> str:
    """Return the first metric of the kind of label whose metrics the version has."""
    return next((names[0] for names in METRICS.values() if names[0] in version.metrics), METRICS["binary"][0])


def _check_signature(version: ModelVersion, public_key: str | Path) -> GateResult:
    """Check the signature of the bundle with a key from a file."""
    from farandole.bundle import open_bundle

    try:
        bundle = open_bundle(fetch_bundle(version.uri), public_key=Path(public_key))
    except (BundleError, RegistryError) as error:
        return _failed("signature", str(error))
    return GateResult("signature", True, f"the bundle {_short(bundle.digest)} is signed with {public_key}")


def _check_explanation(registry: Registry, version: ModelVersion) -> GateResult:
    """Look for an explanation in the bundle and among the artifacts of the run."""
    try:
        folder = fetch_bundle(version.uri) / _EXPLANATIONS
        if folder.is_dir() and any(folder.iterdir()):
            return GateResult("explanation", True, "the bundle holds an explanation")
    except RegistryError:
        pass  # a model without a bundle may have been explained in its run
    if version.run_id is not None:
        with registry.errors():
            found = registry.client.list_artifacts(version.run_id, _EXPLANATIONS)
        if found:
            return GateResult("explanation", True, f"the run holds {found[0].path}")
    run = version.run_id or "RUN"
    return _failed("explanation", f"the model has not been explained; `farandole explain {run}` does that")


def _failed(gate: str, text: str) -> GateResult:
    return GateResult(gate, False, text)


def _shown(version: Any) -> str:
    return "no version" if version is None else f"version {version}"


def _short(digest: str | None) -> str:
    return "none recorded" if digest is None else digest.removeprefix("sha256:")[:8]
