"""Identity of a process beyond its id."""

from __future__ import annotations

import os
from dataclasses import dataclass

from farandole.process.locks import boot_id, start_ticks


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of this machine, beyond its id, which the kernel gives to other processes later.

    Args:
        pid: The process id.
        ticks: When the process was started, in clock ticks since boot.
        boot: The id of the boot.
    """

    pid: int
    ticks: int | None
    boot: str

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls(os.getpid(), start_ticks(os.getpid()), boot_id())

    @property
    def is_alive(self) -> bool:
        """True if this very process still exists."""
        return self.boot == boot_id() and self.ticks is not None and start_ticks(self.pid) == self.ticks
