"""The machine of a benchmark, and the processes that measure."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farandole.errors import PreparationError, UnavailableError

_ROOT = Path(__file__).resolve().parents[1]
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_IO_THREADS"), "1")
_TIMEOUT_S = 3600


def describe_machine() -> dict[str, Any]:
    """Return the `machine` part of a result document."""
    import psutil

    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "os": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "pyarrow", "numpy", "pyspark")},
    }


def run_module(module: str, request: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """Run a module in a separate process, and return the JSON document that it prints.

    Args:
        module: Name of the module.
        request: Its only argument, which is passed as JSON.
        python: The interpreter; another one finds Farandole by its path.

    Raises:
        UnavailableError: The interpreter does not exist.
        PreparationError: The process failed.
    """
    command = [python, "-m", module, json.dumps(request)]
    with tempfile.TemporaryDirectory(prefix="farandole-benchmark-") as temporary:
        python_path = os.pathsep.join([str(_ROOT), str(_ROOT / "platform")])
        environment = {
            **os.environ,
            **_ONE_THREAD,
            "PYTHONPATH": python_path,
            "TMPDIR": temporary,  # peers leave lock files
        }
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except OSError as error:
            text = f"--peers-python: {python}: {error.strerror}; give the path of a Python"
            raise UnavailableError(text) from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise PreparationError(f"{' '.join(command[:3])} failed: {last}", detail=done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@contextmanager
def repository_on_python_path() -> Iterator[None]:
    """Let child processes import this package until the block ends."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def importable(names: dict[str, str], python: str = sys.executable) -> list[str]:
    """Return the systems that an interpreter can import.

    Args:
        names: By system, the module that it needs.
        python: The interpreter.

    Raises:
        UnavailableError: The interpreter does not exist.
    """
    code = (
        "import importlib.util, json, sys; names = json.loads(sys.argv[1]);"
        "print(json.dumps([n for n, m in names.items() if importlib.util.find_spec(m)]))"
    )
    try:
        done = subprocess.run([python, "-c", code, json.dumps(names)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"--peers-python: {python}: {error.strerror}; give the path of a Python") from error
    if done.returncode:
        raise UnavailableError(f"--peers-python: {python}: {done.stderr.strip()}; give the path of a Python")
    found: list[str] = json.loads(done.stdout)
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
