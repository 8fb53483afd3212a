"""Selection of the systems to measure: the requested ones, or all that are installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.machine import importable
from farandole.errors import SpecError, UnavailableError, closest_match
from farandole.events import EventHandler, Message


def select_names(option: str, requested: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the requested names; if there are none, all that are known.

    Raises:
        SpecError: A name is unknown.
    """
    choices = list(known)
    for name in requested:
        if name not in choices:
            close = closest_match(name, choices)
            hint = f"did you mean {close}?" if close else f"choose among {', '.join(choices)}"
            raise SpecError(f"{option}: {name}: unknown; {hint}")
    return list(requested) or choices


def select_systems(
    requested: Sequence[str], own: Sequence[str], peers: Mapping[str, str], python: str, on_event: EventHandler
) -> list[str]:
    """Return the systems to measure, in the order in which they are known.

    Args:
        requested: Names of the requested systems; empty: all that are installed.
        own: Systems that only need this interpreter.
        peers: The other systems, and the module that each needs.
        python: The interpreter of the peers.
        on_event: Receives a message about the systems that are left out.

    Raises:
        SpecError: A system does not exist.
        UnavailableError: A requested system is not installed.
    """
    known = [*own, *peers]
    chosen = select_names("--system", requested, known)
    wanted = [name for name in known if name in chosen]
    found = importable({name: peers[name] for name in wanted if name in peers}, python)
    missing = [name for name in wanted if name in peers and name not in found]
    if missing and requested:
        raise UnavailableError(
            f"--system: {', '.join(missing)}: not installed in {python}; BENCHMARKS.md describes how to create an"
            " interpreter for --peers-python"
        )
    if missing:
        on_event(Message(f"not installed in {python}, left out: {', '.join(missing)}"))
    return [name for name in wanted if name not in missing]
