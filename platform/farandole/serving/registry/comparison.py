"""Two versions side by side: metrics, rows, the parameters that differ, sizes and datasets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from farandole.errors import RegistryError
from farandole.serving.registry.runs import dataset_rows
from farandole.serving.registry.versions import ModelVersion, find_version
from farandole.tracking.model_store.bundles import bundle_files
from farandole.tracking.model_store.reference import parse_registered

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import Registry

Pair = tuple[Any, Any]
"""The values of both versions; None where one has none."""


@dataclass(frozen=True)
class ModelComparison:
    """Two versions side by side.

    Args:
        first: One version.
        second: The other one.
        comparable: Whether both were measured on the same test rows.
        metrics: Metrics on the test split, by name.
        rows: Rows of the dataset, by split.
        params: The fields of the jobs that differ, by field path.
        sizes: Sizes in bytes of the bundles' files, by name, and of all files as `total`.
    """

    first: ModelVersion
    second: ModelVersion
    comparable: bool
    metrics: dict[str, Pair]
    rows: dict[str, Pair]
    params: dict[str, Pair]
    sizes: dict[str, Pair]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {**asdict(self), "first": self.first.to_dict(), "second": self.second.to_dict()}


def compare_models(first: str, second: str) -> ModelComparison:
    """Compare two versions of registered models.

    Args:
        first: `NAME/VERSION` or `NAME@ALIAS`; `models:/` may precede it.
        second: The other version, of the same model or of another one.

    Raises:
        RegistryError: There is no such model, version or alias.
        UnavailableError: MLflow does not answer.
    """
    from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

    registry = Registry()
    versions = []
    for text in (first, second):
        reference = parse_registered(text)
        if reference.version is None and reference.alias is None:
            raise RegistryError(f"{text}: names no version; write {text}/VERSION or {text}@ALIAS")
        versions.append(find_version(registry, reference))
    one, other = versions
    params = _pair(one.params, other.params)
    return ModelComparison(
        first=one,
        second=other,
        comparable=one.test_rows is not None and one.test_rows == other.test_rows,
        metrics=_pair(one.metrics, other.metrics),
        rows=_pair(_rows(registry, one), _rows(registry, other)),
        params={name: pair for name, pair in params.items() if pair[0] != pair[1]},
        sizes=_pair(_sizes(registry, one), _sizes(registry, other)),
    )


def _rows(registry: Registry, version: ModelVersion) -> dict[str, int]:
    try:
        return dataset_rows(registry.run(version.run_id)) if version.run_id else {}
    except RegistryError:
        return {}


def _sizes(registry: Registry, version: ModelVersion) -> dict[str, int]:
    """Return the sizes of a bundle's files; empty if the model holds no bundle."""
    reference = parse_registered(version.uri)
    try:
        _, files = bundle_files(registry, reference, registry.find(reference))
    except RegistryError:
        return {}
    return {**files, "total": sum(files.values())}


def _pair(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Pair]:
    return {name: (first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])}
