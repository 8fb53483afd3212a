"""Settings of a service, as the supervisor hands them to its workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from farandole.errors import UserError
from farandole.serving.access import ONE_YEAR_S
from farandole.serving.service.batcher import BatchLimits

NotANumber = Literal["refuse", "missing"]


@dataclass(frozen=True)
class RequestLimits:
    """Largest requests, and longest times.

    Args:
        max_body_bytes: Bytes of a body.
        max_rows: Rows of a request.
        max_columns: Columns of a request.
        header_s: Time for the head of a request, in seconds.
        body_s: Time for its body.
        max_head_bytes: Bytes of a head.
    """

    max_body_bytes: int = 16 * 2**20
    max_rows: int = 10_000
    max_columns: int = 1_000
    header_s: float = 10.0
    body_s: float = 10.0
    max_head_bytes: int = 64 * 1024


@dataclass(frozen=True)
class ServiceSettings:
    """Everything that a worker needs besides the models.

    Args:
        form: The form of the network (`eager`, `program`, `onnx`, `int8`); None: the bundle's choice.
        batches: Sizes and times of batches.
        limits: Largest requests.
        not_a_number: Whether a NaN in the rows of a request is refused or means a missing value.
        is_open: Whether callers need no key.
        terse_errors: Whether errors leave out rows, columns, values and rules.
        compute_in: Where batches are computed: a thread, the event loop, or what a warm-up recommends.
        drain_s: How long a worker accepts requests after SIGTERM, so that every connection can be closed politely.
        log_requests: Whether each request is a line of the log.
        payload_log: The folder of the payload log; None: there is none.
        access: Options of access control: those of `AccessConfig`.
        tls: Files for TLS: those of `TlsFiles`; empty: plain HTTP.
        hsts_s: For how long browsers that were answered by TLS ask by nothing else, in seconds; 0: that is not asked.
        public_key: The file of the key that bundles must be signed with; None: signatures are not checked.
    """

    form: str | None = None
    batches: BatchLimits = field(default_factory=BatchLimits)
    limits: RequestLimits = field(default_factory=RequestLimits)
    not_a_number: NotANumber = "refuse"
    is_open: bool = False
    terse_errors: bool = False
    compute_in: Literal["auto", "thread", "loop"] = "auto"
    drain_s: float = 1.0
    log_requests: bool = True
    payload_log: str | None = None
    access: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, str | None] = field(default_factory=dict)
    hsts_s: int = ONE_YEAR_S
    public_key: str | None = None

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServiceSettings:
        """Restore the result of `to_json`."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "batches": BatchLimits(**values["batches"]),
                "limits": RequestLimits(**values["limits"]),
            }
        )


@dataclass(frozen=True)
class Variant:
    """One version of a served model.

    Args:
        label: Its name in splits and metrics: the alias, the version or the folder it was asked for by.
        source: The MODEL as the user wrote it, which is asked again for its newest version.
        path: The bundle's directory.
        version: The model version.
        weight: Its share of the requests that name no version; 0: only those that name it.
        is_shadow: Whether it receives a copy of every request, and its answers are only observed.
    """

    label: str
    source: str
    path: str
    version: str
    weight: float = 0.0
    is_shadow: bool = False


@dataclass(frozen=True)
class Deployment:
    """All models of a service at one time.

    Args:
        generation: Counts the changes.
        models: Name to variants; the first model answers where a request names none.
    """

    generation: int
    models: Mapping[str, tuple[Variant, ...]]

    def to_json(self) -> str:
        """Return the deployment as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Deployment:
        """Restore the result of `to_json`."""
        values = json.loads(text)
        models = {name: tuple(Variant(**each) for each in found) for name, found in values["models"].items()}
        return cls(values["generation"], models)


def parse_split(text: str) -> dict[str, float]:
    """Parse shares of the traffic: `champion=0.9,challenger=0.1`.

    Raises:
        UserError: The text has another form, or the shares do not add up to 1.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        label, equals, share = part.strip().partition("=")
        try:
            number = float(share)
        except ValueError:
            number = -1.0
        if not (label and equals and 0 <= number <= 1) or label in shares:
            raise UserError(
                f"--split: {part.strip()!r} is not LABEL=SHARE with a share from 0 to 1; write"
                " champion=0.9,challenger=0.1"
            )
        shares[label] = number
    if abs(sum(shares.values()) - 1.0) > 1e-6:
        raise UserError(f"--split: the shares add up to {sum(shares.values()):g}; make them add up to 1")
    return shares


def read_deployment(directory: Path) -> Deployment:
    """Read the deployment that the supervisor has written for its workers."""
    return Deployment.from_json((directory / DEPLOYMENT).read_text(encoding="utf-8"))


DEPLOYMENT = "deployment.json"
SETTINGS = "settings.json"
