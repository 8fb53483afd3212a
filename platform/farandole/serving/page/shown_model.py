"""A served model as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from farandole.bundle import Bundle
from farandole.serving.page.card import render_card
from farandole.serving.page.fields import FormField, form_fields
from farandole.serving.page.outline import outline

_CARD, _METRICS, _LINEAGE, _STATISTICS = "card.md", "metrics.json", "lineage.json", "statistics.json"


@dataclass(frozen=True, eq=False)
class ShownModel:
    """A model of the service. It is read from its bundle once, so keep the object as long as the model is served.

    Args:
        name: Name under which requests name it.
        bundle: Its bundle.
        version: Its version in the registry; None: it is not from a registry.
        columns: Raw columns that the service takes, with their SQL types; None: those of the features.
        explains: Whether the service explains its predictions.
    """

    name: str
    bundle: Bundle
    version: str | None = None
    columns: Mapping[str, str] | None = None
    explains: bool = True

    @cached_property
    def fields(self) -> tuple[FormField, ...]:
        """The fields of its form."""
        statistics = self._read(_STATISTICS) or {}
        return form_fields(self.bundle.preprocessing, self.columns, statistics.get("columns"))

    @cached_property
    def view(self) -> dict[str, Any]:
        """The variables of the template."""
        label = self.bundle.label
        card = self.bundle.path / _CARD
        metrics, lineage = self._read(_METRICS), self._read(_LINEAGE)
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.bundle.digest,
            "label": {"column": label.column, "kind": label.kind, "classes": label.classes},
            "fields": self.fields,
            "explains": self.explains,
            "card": render_card(card.read_text(encoding="utf-8")) if card.is_file() else None,
            "metrics": outline(metrics) if metrics else None,
            "lineage": outline(lineage) if lineage else None,
        }

    def _read(self, file: str) -> Any:
        """Return a JSON document of the bundle, None if it has none."""
        return self.bundle.read_json(file) if self.bundle.has(file) else None
