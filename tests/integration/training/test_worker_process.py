"""Process of a worker without a launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from farandole.process.messages import parse_line
from farandole.spec import Job


def test_worker_started_without_its_launcher_reports_the_wrong_gang_size(
    home: Path, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    (tmp_path / "job.json").write_text(make_job().model_dump_json())
    job, directory = str(tmp_path / "job.json"), str(tmp_path)
    command = [sys.executable, "-m", "farandole.training.worker", "--job", job, "--directory", directory]
    environment = {**os.environ, "FARANDOLE_WORKERS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    reports = [report for _, report in map(parse_line, done.stdout.splitlines()) if report is not None]
    (report,) = (report for report in reports if "kind" in report)  # a heartbeat may follow
    assert report["kind"] == "UnavailableError"
    assert "the job requests 2 workers, but this worker is in a gang of 1" in report["message"]
