"""The steps of a model's origin: a tree in which a gap is a step with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class TraceStep:
    """A step of a model's origin.

    Args:
        kind: `model`, `bundle`, `run`, `job file`, `code`, `dataset`, `query`, `transform`, `privacy`, `source`,
            `file`, `teacher` or `pruned model`.
        name: What the step is called: a URI, an id, a path.
        facts: What was recorded of it, by name.
        missing: Why nothing is known of it; None if it is known.
        steps: The steps that it follows from.
    """

    kind: str
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None
    steps: tuple[TraceStep, ...] = ()

    @property
    def gaps(self) -> Iterator[TraceStep]:
        """The missing steps of the whole tree below."""
        if self.missing is not None:
            yield self
        for step in self.steps:
            yield from step.gaps

    def find(self, kind: str) -> TraceStep | None:
        """Return the first step of a kind in the tree below; None if there is none."""
        if self.kind == kind:
            return self
        return next((found for step in self.steps if (found := step.find(kind)) is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as plain data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "facts": dict(self.facts),
            "missing": self.missing,
            "steps": [step.to_dict() for step in self.steps],
        }


def missing_step(kind: str, name: str, reason: str) -> TraceStep:
    """Return a step of which nothing is known."""
    return TraceStep(kind, name, missing=reason)


def present(**facts: Any) -> dict[str, Any]:
    """Return the facts that are known: None and empty values are left out."""
    return {name: value for name, value in facts.items() if value not in (None, "", (), [], {})}


def utc(seconds: float) -> str:
    """Return a time in UTC, in seconds since 1970, as text (ISO 8601)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
