"""A backend by its name. Libraries that only one backend needs are imported when that one is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from farandole.errors import SpecError, closest_match

if TYPE_CHECKING:
    from farandole.backends.protocol import Backend
    from farandole.spec import Job

_BACKENDS = {
    "local": ("farandole.backends.local.backend", "LocalBackend"),
    "hosts": ("farandole.backends.hosts.backend", "HostsBackend"),
    "kubernetes": ("farandole.backends.kubernetes", "KubernetesBackend"),
}


def get_backend(name: str, place: dict[str, Any] | None = None, *, slots: int | None = None) -> Backend:
    """A backend.

    Args:
        name: Its name.
        place: Where it is, for one that can be in several places: `context` and `namespace` of a cluster. What is
            missing or None has the backend's own default.
        slots: For backends with a queue of ours: how many jobs run at once.

    Raises:
        SpecError: There is none of this name.
        EnvironmentLacking: What it needs is not installed.
    """
    given = {key: value for key, value in (place or {}).items() if value is not None}
    if name not in _BACKENDS:
        close = closest_match(name, list(_BACKENDS))
        hint = f"did you mean {close}?" if close else f"there are {', '.join(_BACKENDS)}"
        raise SpecError(f"--backend: {name}: there is no such backend; {hint}")
    module, kind = _BACKENDS[name]
    made: Any = getattr(importlib.import_module(module), kind)
    backend: Backend = made(**given) if name == "kubernetes" else made(slots=slots)
    return backend


def place_in(job: Job) -> dict[str, Any]:
    """Where the backend is that a job is for, as far as the job says it."""
    if job.backend.use != "kubernetes":
        return {}
    return {name: getattr(job.backend.kubernetes, name, None) for name in ("context", "namespace")}
