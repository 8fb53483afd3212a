"""The card of a model: what it is for, its data, its metrics and its limits, as its bundle has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from farandole.bundle import open_bundle
from farandole.errors import BundleError
from farandole.events import EventHandler, ignore_event
from farandole.tracking.model_store.bundles import fetch

_CARD = "card.md"


@dataclass(frozen=True)
class ModelCardText:
    """The card of a model.

    Args:
        name: Name of the model.
        version: The number of the registered version; None if it is not registered.
        digest: Digest of the bundle.
        text: The card, in Markdown.
    """

    name: str
    version: str | None
    digest: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain data."""
        return asdict(self)


def model_card(model: str, on_event: EventHandler = ignore_event) -> ModelCardText:
    """Return the card of a model.

    Args:
        model: A bundle's directory, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN_ID/model`.
        on_event: Receives a warning where MLflow does not answer and the last known bundle is used.

    Raises:
        RegistryError: There is no such model.
        BundleError: The bundle is damaged, or has no card.
        UnavailableError: MLflow does not answer, and the model was never fetched on this machine.
    """
    fetched = fetch(model, on_event)
    bundle = open_bundle(fetched.path)
    try:
        text = (bundle.path / _CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(
            f"{model}: its bundle has no {_CARD}; train the model again, or export it with `farandole export`"
        ) from None
    return ModelCardText(fetched.name or bundle.name, fetched.version, bundle.digest, text)
