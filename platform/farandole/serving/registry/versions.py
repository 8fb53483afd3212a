"""Registered models and their versions, as MLflow has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from farandole.errors import RegistryError
from farandole.tracking.model_store.reference import ModelReference, parse_registered

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import Registry

TEST_ROWS_TAG = "farandole.test_rows_digest"
DATASET_TAG = "farandole.dataset_digest"
DERIVED_TAG = "farandole.derived_from"
"""The version that a version was made from by compression: its metrics are in its own tags."""
_TEST = "test."


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model.

    Args:
        name: Its name.
        versions: Number of its versions.
        newest: The newest version; None if it has none.
        aliases: Alias to version.
        updated: Time of the last change, in UTC (ISO 8601).
        description: Its description, in Markdown.
    """

    name: str
    versions: int
    newest: str | None
    aliases: dict[str, str]
    updated: str
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Args:
        name: The model.
        version: The number.
        aliases: The aliases that stand for it.
        created: Time of its registration, in UTC (ISO 8601).
        run_id: The MLflow run that trained it; None if unknown.
        job: The id of the job; None if unknown.
        metrics: Metrics on the test split, by name.
        dataset: The beginning of the dataset's digest; None if unknown.
        test_rows: Digest of the test rows: metrics of versions with different ones cannot be compared.
        params: The fields of the job that differ from their defaults, by field path.
        description: Its description, in Markdown.
        derived_from: The version that it was made from by compression.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    created: str
    run_id: str | None
    job: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    dataset: str | None = None
    test_rows: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    description: str = ""
    derived_from: str | None = None

    @property
    def uri(self) -> str:
        """The version as MLflow names it."""
        return f"models:/{self.name}/{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return the version as plain data."""
        return {"uri": self.uri, **asdict(self)}


def list_models() -> list[RegisteredModel]:
    """Return the registered models, by name.

    Raises:
        UnavailableError: MLflow does not answer, or there is no store.
    """
    from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

    registry = Registry()
    found: list[RegisteredModel] = []
    token: str | None = None
    while True:
        with registry.errors():
            page = registry.client.search_registered_models(page_token=token)
        found += [_as_model(registry, entry) for entry in page]
        token = page.token
        if not token:
            return sorted(found, key=lambda model: model.name)


def show_model(model: str) -> list[ModelVersion]:
    """Return versions of a registered model, newest first.

    Args:
        model: `NAME` for all versions, or `NAME/VERSION` or `NAME@ALIAS` for one; `models:/` may precede it.

    Raises:
        RegistryError: There is no such model, version or alias.
        UnavailableError: MLflow does not answer, or there is no store.
    """
    from farandole.tracking.model_store.connection import Registry

    registry, reference = Registry(), parse_registered(model)
    if reference.version is not None or reference.alias is not None:
        return [find_version(registry, reference)]
    aliases = registry.registered(reference.name or "").aliases
    return [_as_version(registry, entry, aliases) for entry in registry.versions(reference.name or "")]


def find_version(registry: Registry, reference: ModelReference) -> ModelVersion:
    """Return the version that a version's number or an alias names.

    Raises:
        RegistryError: There is no such version.
    """
    if reference.name is None:
        raise RegistryError(f"{reference.text}: is not a registered model; name NAME/VERSION or NAME@ALIAS")
    entry = registry.version(reference)
    return _as_version(registry, entry, registry.registered(reference.name).aliases)


def current_version(model: str) -> str:
    """Return the number of the version that an alias stands for at present, in one or two short requests.

    Args:
        model: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        RegistryError: There is no such model, version or alias.
        UnavailableError: MLflow does not answer.
    """
    from farandole.tracking.model_store.connection import Registry

    return str(Registry().version(parse_registered(model)).version)


def _as_model(registry: Registry, entry: Any) -> RegisteredModel:
    try:
        versions = registry.versions(entry.name)
    except RegistryError:
        versions = []
    newest = str(versions[0].version) if versions else None
    # A search leaves the aliases out.
    aliases = registry.registered(entry.name).aliases
    updated = max([entry.last_updated_timestamp or 0, *(version.creation_timestamp or 0 for version in versions)])
    return RegisteredModel(
        entry.name, len(versions), newest, _sorted(aliases), _time(updated), (entry.description or "").strip()
    )


def _as_version(registry: Registry, entry: Any, aliases: Mapping[str, Any]) -> ModelVersion:
    named = tuple(sorted(alias for alias, version in aliases.items() if str(version) == str(entry.version)))
    version = ModelVersion(
        derived_from=entry.tags.get(DERIVED_TAG),
        name=entry.name,
        version=str(entry.version),
        aliases=named,
        created=_time(entry.creation_timestamp or 0),
        run_id=entry.run_id or None,
        metrics=_numbers(entry.tags),
        dataset=entry.tags.get("dataset"),
        description=(entry.description or "").strip(),
    )
    return version if version.run_id is None else _with_run(registry, version)


def _with_run(registry: Registry, version: ModelVersion) -> ModelVersion:
    """Add what the run of a version carries; a run that was deleted for good leaves gaps."""
    try:
        data = registry.run(version.run_id or "").data
    except RegistryError:
        return version
    metrics = {name.removeprefix(_TEST): value for name, value in data.metrics.items() if name.startswith(_TEST)}
    return replace(
        version,
        job=data.tags.get("farandole.job"),
        metrics=version.metrics if version.derived_from or not metrics else metrics,
        dataset=data.tags.get(DATASET_TAG) or version.dataset,
        test_rows=data.tags.get(TEST_ROWS_TAG),
        params=dict(sorted(data.params.items())),
    )


def _numbers(tags: Mapping[str, str]) -> dict[str, float]:
    """Return the test metrics among the tags of a version, which are rounded for people."""
    found: dict[str, float] = {}
    for name, text in tags.items():
        if name.startswith(_TEST):
            try:
                found[name.removeprefix(_TEST)] = float(text)
            except ValueError:
                continue
    return found


def _sorted(aliases: Mapping[str, Any]) -> dict[str, str]:
    return {alias: str(aliases[alias]) for alias in sorted(aliases)}


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
