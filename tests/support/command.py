"""The command `farandole` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FARANDOLE = str(Path(sys.executable).with_name("farandole"))
TIMEOUT_S = 600


def farandole(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; return its exit code and output."""
    command = [FARANDOLE, *map(str, arguments)]
    options = {"capture_output": True, "text": True, "check": False, "timeout": TIMEOUT_S, **options}
    return subprocess.run(command, **options)


def document(*arguments: object) -> Any:
    """Run a command with `--json`; return its document."""
    done = farandole(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
