"""Which systems are measured: those that were asked for, or all that are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.machine import importable
from farandole.errors import SpecError, UnavailableError, closest_match
from farandole.events import EventHandler, Message


def check_names(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Check that all names are known.

    Raises:
        SpecError: One is not.
    """
    for name in names:
        if name not in known:
            close = closest_match(name, list(known))
            hint = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
            raise SpecError(f"{option}: {name}: unknown; {hint}")


def select_systems(
    asked: Sequence[str], ours: Sequence[str], peers: Mapping[str, str], python: str, on_event: EventHandler
) -> list[str]:
    """The systems to measure, in the order in which they are known.

    Args:
        asked: The names that were asked for; empty: all that are installed.
        ours: Systems that need nothing but our own interpreter.
        peers: The others, and the module that each needs.
        python: The interpreter of the others.
        on_event: Is told what is left out.

    Raises:
        SpecError: A system does not exist.
        EnvironmentLacking: A system that was asked for is not installed.
    """
    known = [*ours, *peers]
    check_names("--system", asked, known)
    wanted = [name for name in known if name in (asked or known)]
    found = importable({name: peers[name] for name in wanted if name in peers}, python)
    missing = [name for name in wanted if name in peers and name not in found]
    if missing and asked:
        raise UnavailableError(
            f"--system: {', '.join(missing)}: not installed in {python}; BENCHMARKS.md says how to make an interpreter"
            " for --peers-python"
        )
    if missing:
        on_event(Message(f"not installed in {python}, left out: {', '.join(missing)}"))
    return [name for name in wanted if name not in missing]
