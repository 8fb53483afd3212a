from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

FARANDOLE = str(Path(sys.executable).with_name("farandole"))


def farandole(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [FARANDOLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, **options)


def test_an_unknown_job_is_rejected(home: Path) -> None:
    done = farandole("sync", "nobody")
    assert done.returncode == 2
    assert done.stderr.startswith("farandole: nobody: no job or sweep with this id has run here")
