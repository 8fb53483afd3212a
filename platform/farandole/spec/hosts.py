"""The `resources.hosts` part of a job file: where workers may run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from farandole.spec.base import PathText, Spec

_HOST = re.compile(r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<slots>[1-9][0-9]{0,4}))?")


def parse_host(text: str) -> tuple[str, int]:
    """Name and slots of `NAME:SLOTS`; without slots it has one.

    Raises:
        ValueError: It is written otherwise.
    """
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is not a host; write NAME:SLOTS, for example node1:4")
    return match["name"], int(match["slots"] or 1)


def _checked(text: str) -> str:
    name, slots = parse_host(text)
    return f"{name}:{slots}"


class Hosts(Spec):
    """Where the hosts are listed: in one of three ways. Each is asked again before every attempt."""

    fixed: Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], Field(min_length=1)] | None = None
    """`NAME:SLOTS` of each host; a slot is room for one worker. `hosts: [a:2, b:2]` is short for this."""
    file: PathText | None = None
    """A file with one `NAME:SLOTS` (or `NAME slots=SLOTS`) in each line."""
    script: PathText | None = None
    """A program that prints one `NAME:SLOTS` in each line."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, raw: Any) -> Any:
        return {"fixed": raw} if isinstance(raw, list | tuple) else raw

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("fixed", "file", "script") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"{found} given; write a list of NAME:SLOTS, or one of `file` and `script`")
        return self
