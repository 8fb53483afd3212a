"""Run as much of the acceptance tier as the time allows: `python -m tests.acceptance --minutes 50`.

The tier takes longer than CI has, so a run begins with the files that the change touches and continues with the
rest from a position that the date picks; every file gets its turn within days. Each file runs in a pytest of its
own, one after the other, because most of its tests want the whole machine. A file that fails gets one second try
of its failed tests; the first failure stays in the log. At the end the run lists what it left out, and why.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.paths import ROOT

FOLDERS = ("tests/acceptance", "tests/chaos")
DURATIONS = ROOT / "tests" / "acceptance" / "durations.json"
"""Seconds that each file took on two quiet cores, renewed by `--record`."""
UNKNOWN_S = 180.0
CLUSTER_START_S = 300.0
CLUSTER_BUILD_S = 1200.0
NO_TESTS = 5
"""Exit code of pytest where it selected no test."""


@dataclass(frozen=True)
class Part:
    """A file of tests.

    Args:
        path: Relative to the root of the checkout.
        seconds: How long it takes, roughly.
        cluster: Whether it needs a Kubernetes cluster.
    """

    path: str
    seconds: float
    cluster: bool

    @property
    def subject(self) -> str:
        """The folder below its tier, named after a package or a part of the checkout (`launch`, `docs`)."""
        parts = Path(self.path).parts
        return parts[2] if len(parts) > 3 else Path(self.path).stem.removeprefix("test_")


@dataclass
class Report:
    """The outcome of each part."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def find_parts(root: Path = ROOT) -> list[Part]:
    """List the files of the tier in alphabetical order."""
    known: dict[str, float] = json.loads(DURATIONS.read_text(encoding="utf-8")) if DURATIONS.exists() else {}
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob("test_*.py"))
    return [
        Part(
            name := path.relative_to(root).as_posix(),
            known.get(name, UNKNOWN_S),
            "pytest.mark.cluster" in path.read_text(encoding="utf-8"),
        )
        for path in paths
    ]


def subjects_of(changed: list[str]) -> set[str]:
    """Name the subjects that changed files belong to.

    Args:
        changed: Paths relative to the root of the checkout.
    """
    subjects = set()
    for path in changed:
        parts = Path(path).parts
        if parts[:2] == ("platform", "farandole") and len(parts) > 2:
            subjects.add(Path(parts[2]).stem)
        elif parts[0] == "tests" and len(parts) > 3:
            subjects.add(parts[2])
        elif parts[0] in {"docs", "README.md"}:
            subjects.add("docs")
        elif len(parts) > 1:
            subjects.add(parts[0])
    return subjects


def order(parts: list[Part], changed: list[str], day: int) -> list[Part]:
    """Order the parts: those that the change touches, then the rest from a position that the day picks.

    A file that changed itself comes first of all. Parts that need the cluster stay together, at the place of the
    first of them, so that it starts once.

    Args:
        parts: All parts.
        changed: Paths of changed files, relative to the root of the checkout.
        day: A number that grows by one each day.
    """
    subjects = subjects_of(changed)
    start = day % len(parts) if parts else 0
    rotated = parts[start:] + parts[:start]
    ranked = sorted(rotated, key=lambda part: (part.path not in changed, part.subject not in subjects))
    ordered: list[Part] = []
    for part in ranked:
        if part in ordered:
            continue
        ordered += [other for other in ranked if other.cluster] if part.cluster else [part]
    return ordered


def changed_files(base: str | None) -> list[str]:
    """List the files that changed since a commit; by default since the newest one that is older than a day."""
    if base is None:
        base = _git("rev-list", "-1", "--before=1.day", "HEAD").strip()
    if not base:
        return []
    return _git("diff", "--name-only", base, "HEAD").splitlines()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


class Cluster:
    """The Kubernetes node that scripts beside the checkout build and start.

    Args:
        scripts: Their folder; None where there is none.
    """

    def __init__(self, scripts: Path | None) -> None:
        self._scripts = scripts
        self._command = str(ROOT / "setup" / "test_cluster.sh")
        self.environment: dict[str, str] = {}

    @property
    def start_s(self) -> float:
        """Seconds until it answers: a first start builds it."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "farandole-cluster"
        built = Path(os.environ.get("FARANDOLE_CLUSTER", cache)) / "built"
        return CLUSTER_START_S if built.exists() else CLUSTER_BUILD_S

    @property
    def obstacle(self) -> str | None:
        """Say why it cannot be started here."""
        if os.environ.get("FARANDOLE_TEST_KUBECONFIG"):
            return None
        if self._scripts is None:
            return "there are no scripts that start a cluster"
        return None if os.geteuid() == 0 else "only root can start a cluster"

    def start(self, seconds: float) -> bool:
        """Start it, unless the environment names one; return whether it answers."""
        if self.environment or os.environ.get("FARANDOLE_TEST_KUBECONFIG"):
            return True
        try:
            done = subprocess.run(
                [self._command, str(self._scripts), "up"],
                check=False,
                stdout=subprocess.PIPE,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode != 0:
            return False
        self.environment = {
            "FARANDOLE_TEST_KUBECONFIG": done.stdout.strip(),
            "FARANDOLE_TEST_API_RESTART": f"{self._command} {self._scripts} restart-api",
        }
        return True

    def stop(self) -> None:
        """Stop it if this run started it."""
        if self.environment:
            subprocess.run([self._command, str(self._scripts), "down"], check=False)


def run_part(part: Part, seconds: float, environment: dict[str, str]) -> bool:
    """Run the tests of a file, failed ones a second time; return whether all passed in the end."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", part.path]
    deadline = time.monotonic() + seconds
    for extra in ([], ["--last-failed"]):
        process = subprocess.Popen([*command, *extra], cwd=ROOT, env={**os.environ, **environment})
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{part.path}: was cut off when the time was up", file=sys.stderr, flush=True)
            _end(process)
            return False
        if code in {0, NO_TESTS}:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt pytest, so that its fixtures stop what they started, and kill it if it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(parts: list[Part], minutes: float, cluster: Cluster, record: bool) -> Report:
    """Run the parts in their order until the time is up."""
    report = Report()
    durations: dict[str, float] = {}
    deadline = time.monotonic() + 60 * minutes
    for part in parts:
        left = deadline - time.monotonic()
        needed = part.seconds
        if part.cluster:
            if cluster.obstacle is not None:
                report.left_out[part.path] = cluster.obstacle
                continue
            if not cluster.environment:
                needed = cluster.start_s + sum(other.seconds for other in parts if other.cluster)
        if left < needed:
            report.left_out[part.path] = f"takes about {needed / 60:.0f} min, {max(left, 0) / 60:.0f} were left"
            continue
        if part.cluster and not cluster.start(left):
            report.failed.append(f"{part.path} (the cluster did not start)")
            continue
        print(f"== {part.path}", flush=True)
        began = time.monotonic()
        passed = run_part(part, deadline - began, cluster.environment)
        durations[part.path] = round(time.monotonic() - began, 1)
        (report.passed if passed else report.failed).append(part.path)
    if record:
        known = json.loads(DURATIONS.read_text(encoding="utf-8")) if DURATIONS.exists() else {}
        DURATIONS.write_text(json.dumps({**known, **durations}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return report


def main() -> int:
    """Run the tier from the command line; return 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance", description=__doc__)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="time for the whole run (default: a day)")
    parser.add_argument("--since", help="commit that the change began at (default: the newest older than a day)")
    parser.add_argument("--cluster-scripts", type=Path, help="folder of the scripts that build and start a cluster")
    parser.add_argument("--list", action="store_true", help="print the order and stop")
    parser.add_argument("--record", action="store_true", help="note how long each file took")
    options = parser.parse_args()
    day = datetime.datetime.now(datetime.UTC).date().toordinal()
    parts = order(find_parts(), changed_files(options.since), day)
    if options.list:
        for part in parts:
            print(f"{part.seconds:6.0f} s  {part.path}{'  (cluster)' if part.cluster else ''}")
        return 0
    scripts = options.cluster_scripts
    cluster = Cluster(scripts.resolve() if scripts is not None and scripts.is_dir() else None)
    try:
        report = run(parts, options.minutes, cluster, options.record)
    finally:
        cluster.stop()
    for path, reason in report.left_out.items():
        print(f"not run: {path} ({reason})")
    for path in report.failed:
        print(f"failed: {path}")
    print(f"acceptance: {len(report.passed)} files passed, {len(report.failed)} failed, {len(report.left_out)} not run")
    return int(bool(report.failed))


if __name__ == "__main__":
    raise SystemExit(main())
