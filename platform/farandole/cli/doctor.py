"""What `farandole doctor` looks at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from farandole.errors import UnavailableError
from farandole.ingest.spark.java import require_java
from farandole.spec import Tracking, home, load_job

_PACKAGES = ("pyspark", "pyarrow", "torch", "horovod", "mlflow")
_MIN_FREE_GB = 2.0


def check_machine() -> list[dict[str, Any]]:
    """One finding for each thing that jobs need: `{"name", "ok", "found", "remedy"}`."""
    findings = [_java()]
    findings += [_package(name) for name in _PACKAGES]
    findings += [_horovod_works(), _disk(), _store()]
    return findings


def check_hosts(job_file: Path) -> list[dict[str, Any]]:
    """The same about the hosts of a job: SSH, versions, clock, disk, dataset, checkpoints, ports."""
    from farandole.launch.ssh.preflight import check_hosts as look_at_hosts

    return [finding.to_dict() for finding in look_at_hosts(load_job(job_file)).findings]


def _finding(name: str, ok: bool, found: str, remedy: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found, "remedy": "" if ok else remedy}


def _java() -> dict[str, Any]:
    try:
        return _finding("java", True, require_java(), "")
    except UnavailableError as error:
        found, _, remedy = str(error).partition("; ")
        return _finding("java", False, found, remedy)


def _package(name: str) -> dict[str, Any]:
    try:
        return _finding(name, True, version(name), "")
    except PackageNotFoundError:
        return _finding(name, False, "not installed", "run `make setup`")


def _horovod_works() -> dict[str, Any]:
    """Whether Horovod's library loads with this torch: a wheel for another version fails only when it is imported."""
    code = "import horovod.torch as h; print('gloo' if h.gloo_built() else '', 'nccl' if h.nccl_built() else '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = done.stdout.split() if done.returncode == 0 else [(done.stderr.strip() or "failed").splitlines()[-1]]
    ok = done.returncode == 0 and "gloo" in found
    return _finding("horovod.torch", ok, " ".join(found), "build its wheel for this torch: `make setup`")


def _disk() -> dict[str, Any]:
    place = home()
    existing = next(path for path in (place, *place.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    ok = free_gb >= _MIN_FREE_GB and os.access(existing, os.W_OK)
    return _finding("disk", ok, f"{free_gb:,.1f} GB free in {place}", "free some space, or set FARANDOLE_HOME")


def _store() -> dict[str, Any]:
    from farandole.tracking.store import resolve_store

    store = resolve_store(Tracking())
    if not store.is_server:
        return _finding("MLflow store", True, store.shown, "")
    import urllib.request

    try:
        with urllib.request.urlopen(f"{store.shown.rstrip('/')}/health", timeout=5) as answer:
            return _finding("MLflow store", answer.status == 200, f"{store.shown} answers {answer.status}", "")
    except (OSError, ValueError) as error:
        return _finding("MLflow store", False, f"{store.shown}: {error}", "start the server, or mend the URI")
