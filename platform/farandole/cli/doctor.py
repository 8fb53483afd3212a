"""The checks of `farandole doctor`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from farandole.ingest.spark.java import REMEDY, probe_java
from farandole.spec import Tracking, load_job
from farandole.storage import home

_PACKAGES = ("pyspark", "pyarrow", "torch", "horovod", "mlflow")
_MIN_FREE_GB = 2.0
_HEALTH_TIMEOUT_S = 5


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        name: The check; those of a host begin with its name.
        ok: Whether it passed.
        found: The version, path or problem that was found.
        remedy: What to do where it did not pass, else empty.
    """

    name: str
    ok: bool
    found: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as an entry of `farandole doctor --json`."""
        return asdict(self)


def check_machine() -> list[Finding]:
    """Check everything that jobs need on this machine."""
    packages = [_check_package(name) for name in _PACKAGES]
    return [_check_java(), *packages, _check_horovod(), _check_disk(), _check_store()]


def check_hosts(job_file: Path) -> list[Finding]:
    """Check the hosts of a job: SSH, versions, clock, disk, dataset, checkpoints, ports."""
    from farandole.launch.ssh.preflight import check_hosts as check_hosts_of_job

    return [Finding(**each.to_dict()) for each in check_hosts_of_job(load_job(job_file)).checks]


def _finding(name: str, ok: bool, found: str, remedy: str) -> Finding:
    return Finding(name, ok, found, "" if ok else remedy)


def _check_java() -> Finding:
    is_usable, found = probe_java()
    return _finding("java", is_usable, found, REMEDY)


def _check_package(name: str) -> Finding:
    try:
        return _finding(name, True, version(name), "")
    except PackageNotFoundError:
        return _finding(name, False, "not installed", "run `make setup`")


def _check_horovod() -> Finding:
    """Check that Horovod's library loads with this torch; a wheel built for another version fails only on import."""
    code = "import horovod.torch as h; print('gloo' if h.gloo_built() else '', 'nccl' if h.nccl_built() else '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = done.stdout.split() if done.returncode == 0 else [(done.stderr.strip() or "failed").splitlines()[-1]]
    ok = done.returncode == 0 and "gloo" in found
    return _finding("horovod.torch", ok, " ".join(found), "build its wheel for this torch: `make setup`")


def _check_disk() -> Finding:
    path = home()
    existing = next(each for each in (path, *path.parents) if each.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    ok = free_gb >= _MIN_FREE_GB and os.access(existing, os.W_OK)
    return _finding("disk", ok, f"{free_gb:,.1f} GB free in {path}", "free some space, or set FARANDOLE_HOME")


def _check_store() -> Finding:
    from farandole.tracking.store import resolve_store

    store = resolve_store(Tracking())
    if not store.is_server:
        return _finding("MLflow store", True, store.shown, "")
    import urllib.request

    remedy = "start the server, or correct MLFLOW_TRACKING_URI"
    try:
        with urllib.request.urlopen(f"{store.shown.rstrip('/')}/health", timeout=_HEALTH_TIMEOUT_S) as answer:
            return _finding("MLflow store", answer.status == 200, f"{store.shown} answers {answer.status}", remedy)
    except (OSError, ValueError) as error:
        return _finding("MLflow store", False, f"{store.shown}: {error}", remedy)
