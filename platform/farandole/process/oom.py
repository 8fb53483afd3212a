"""Evidence that the kernel killed a worker because memory ran out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass
class OomCounter:
    """The kernel's counts of out-of-memory kills in the control groups of the workers.

    The counts are read while the workers live: a process that has ended has no group.
    """

    first: dict[Path, int] = field(default_factory=dict)
    by_rank: dict[int, Path] = field(default_factory=dict)

    def observe(self, rank: int, pid: int) -> None:
        """Remember the control group of a worker, and the group's count if the group is new."""
        file = _count_file(pid)
        if file is None:
            return
        self.by_rank[rank] = file
        if file not in self.first:
            self.first[file] = _count(file) or 0

    def evidence(self, rank: int) -> str | None:
        """Return what indicates that a worker was killed for lack of memory; None if nothing does."""
        file = self.by_rank.get(rank)
        now = _count(file) if file is not None else None
        if file is None or now is None or now <= self.first[file]:
            return None
        return f"{file}: oom_kill rose from {self.first[file]} to {now}"


def _count_file(pid: int) -> Path | None:
    """Return the file with the count of a process's memory group: control groups version 2, or version 1."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None  # the process has ended, or this is not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            file = _ROOT / "memory" / path.lstrip("/") / "memory.oom_control"
        elif not controllers:
            file = _ROOT / path.lstrip("/") / "memory.events"
        else:
            continue
        if file.exists():
            return file
    return None


def _count(file: Path) -> int | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None  # the group has been removed
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else None
