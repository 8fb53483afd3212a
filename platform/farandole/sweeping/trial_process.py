"""Process of one trial: `python -m farandole.sweeping.trial_process --directory DIR`.

It trains on the dataset that the sweep has prepared, registers no model, and reports each epoch to the sweep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farandole import pipeline
from farandole.backends.local.job_process import run_job_process
from farandole.events import EventHandler
from farandole.jobdir.trial_events import TrialEventWriter
from farandole.spec import Job


def main() -> None:
    """Run the trial."""
    run_job_process(train_trial)


def train_trial(job: Job, directory: Path, on_event: EventHandler) -> dict[str, Any]:
    """Train the trial's job, and return its result document. A retried trial resumes from its last checkpoint."""
    report = TrialEventWriter(directory, on_event)
    checked = pipeline.check(job, ["train"])
    prepared = pipeline.load_prepared(checked, report, warn_if_stale=False)  # the sweep has prepared it
    return pipeline.train(checked, prepared, report, directory=directory).to_dict()


if __name__ == "__main__":
    main()
