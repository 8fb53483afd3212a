"""Registry of the backends. A backend's module is imported when the backend is first requested."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from farandole.errors import SpecError, closest_match

if TYPE_CHECKING:
    from farandole.backends.protocol import Backend
    from farandole.spec import Job


@dataclass(frozen=True)
class _Entry:
    """Module and class of a backend, and the keys of its location."""

    module: str
    class_name: str
    location_keys: tuple[str, ...] = ()

    def load(self) -> type[Backend]:
        return cast("type[Backend]", getattr(importlib.import_module(self.module), self.class_name))


_BACKENDS = {
    "local": _Entry("farandole.backends.local.backend", "LocalBackend"),
    "hosts": _Entry("farandole.backends.hosts.backend", "HostsBackend"),
    "foreground": _Entry("farandole.backends.foreground.backend", "ForegroundBackend"),
    "kubernetes": _Entry("farandole.backends.kubernetes.backend", "KubernetesBackend", ("context", "namespace")),
}


def get_backend(name: str, location: Mapping[str, Any] | None = None, *, slots: int | None = None) -> Backend:
    """Return a backend by its name.

    Args:
        name: The backend's name.
        location: Where it is, for a backend that can be in several places: `context` and `namespace` of a cluster.
            A missing entry, or None, stands for the backend's default.
        slots: For backends with a queue on this machine: the number of jobs that run at once from now on.

    Raises:
        SpecError: No backend has this name.
        UnavailableError: A library or a program that it needs is not installed.
    """
    return _entry(name).load().connect(location or {}, slots=slots)


def backend_for_job(job: Job, *, slots: int | None = None) -> Backend:
    """Return the backend that a job file names, at the location that it names."""
    backend = _entry(job.backend.use).load()
    return backend.connect(backend.location_of(job), slots=slots)


def select_backend(name: str | None, location: Mapping[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """Complete the backend's name and location that the user gave.

    Args:
        name: The backend's name; None: not given.
        location: Entries of a location; None: not given.

    Returns:
        The name, and the location if any entry was given. A location without a name selects the backend that has such
        a location.

    Raises:
        SpecError: The named backend has no such location.
    """
    given = {key: value for key, value in location.items() if value is not None}
    if not given:
        return name, None
    owner = next(other for other, entry in _BACKENDS.items() if set(given) <= set(entry.location_keys))
    if name not in (None, owner):
        options = ", ".join(f"--{key}" for key in given)
        is_one = len(given) == 1
        raise SpecError(
            f"{options}: {'this is an option' if is_one else 'these are options'} of {owner}, and --backend is {name};"
            f" leave {'it' if is_one else 'them'} out"
        )
    return owner, dict(location)


def _entry(name: str) -> _Entry:
    if name in _BACKENDS:
        return _BACKENDS[name]
    close = closest_match(name, list(_BACKENDS))
    hint = f"did you mean {close}?" if close else f"the backends are {', '.join(_BACKENDS)}"
    raise SpecError(f"--backend: {name}: there is no such backend; {hint}")
