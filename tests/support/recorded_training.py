"""Training recorded on a given MLflow server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FARANDOLE = str(Path(sys.executable).with_name("farandole"))


def train(job: Path, address: str, user: str, password: str) -> subprocess.CompletedProcess[str]:
    """Run `farandole train` as a user of the server."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    }
    command = [FARANDOLE, "train", str(job), "--register", "--json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
