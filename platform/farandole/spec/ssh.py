"""The `backend.hosts` part of a job file: how machines are reached by SSH."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from farandole.spec.base import PathText, Spec


class Ssh(Spec):
    """How the machines of `resources.hosts` are reached, and what they have to have. What is left out is as the
    user's own SSH configuration has it. Passwords are never asked for: keys are needed."""

    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")] | None = None
    """As whom to log in."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of the SSH servers."""
    identity_file: PathText | None = None
    """The private key."""
    config_file: PathText | None = None
    """A configuration of `ssh` in place of the user's own: names, ports, jump hosts."""
    known_hosts: Literal["accept-new", "strict", "off"] = "accept-new"
    """Keys of hosts: `accept-new` takes a new host's and refuses one that changed, `strict` knows all beforehand, `off`
    takes any: for networks that let nobody in, and hosts that are made anew."""
    known_hosts_file: PathText | None = None
    """Where the keys of hosts are kept."""
    connect_timeout_s: Annotated[int, Field(ge=1)] = 5
    """How long a host may take to answer."""
    python: str | None = None
    """The Python there that has Farandole, of this very version. Default: the same path as here."""
    home: str | None = None
    """FARANDOLE_HOME there: code, caches and what MLflow has not taken yet. Default: as it is set there, or
    `~/.farandole`."""
    address: str | None = None
    """An IPv4 address by which the hosts reach this machine. Default: the one from which SSH reaches them."""
    interface: str | None = None
    """The network interface of the hosts by which workers meet. Default: the one to which SSH connects."""
    min_free_gb: Annotated[float, Field(ge=0)] = 1.0
    """How many gigabytes have to be free in `home` there."""
