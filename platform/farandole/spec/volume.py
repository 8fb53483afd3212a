"""The `backend.kubernetes.volumes` part of a job file."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec

ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""The name of an object in the cluster."""
MountPath = Annotated[str, Field(pattern=r"^/[^:]+$")]
"""An absolute path in a pod."""
_KINDS = ("claim", "host_path", "config_map", "secret")


class Volume(Spec):
    """A volume of the pods: exactly one of `claim`, `host_path`, `config_map` and `secret`."""

    mount_path: MountPath
    """Where it is in the pods."""
    claim: ObjectName | None = None
    """A PersistentVolumeClaim; with more than one node it must allow `ReadWriteMany`."""
    host_path: MountPath | None = None
    """A directory or file of the node itself."""
    config_map: ObjectName | None = None
    """A ConfigMap, its keys as files."""
    secret: ObjectName | None = None
    """A Secret, its keys as files."""
    sub_path: str | None = None
    """Only this folder of it."""
    read_only: bool = False
    """Whether pods may only read it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"{found} given; write exactly one of {', '.join(_KINDS)}")
        return self

    @property
    def shared(self) -> bool:
        """Whether datasets may lie there: a place of files that all pods see."""
        return self.claim is not None or self.host_path is not None

    def holds(self, path: str) -> bool:
        """Whether a path of a pod lies in it."""
        return PurePosixPath(path).is_relative_to(self.mount_path)
