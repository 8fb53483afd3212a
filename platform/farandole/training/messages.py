"""What passes between a worker and its launcher: a few variables, and marked lines of JSON on standard output.

Standard output reaches the launcher from any machine, by pipe, by SSH or from a pod's log. What a worker says, by
`event`:

- the kinds of `farandole.progress`, from the chief;
- `mlflow_run` (`id`): the chief has opened the MLflow run; `result`: the result document, from the chief;
- `failed` (`rank`, `time_s`, `kind`, `message`, `detail`): why the worker ends with 1;
- `stopped` (`step`): a worker was asked to stop by SIGTERM (one is enough, all agree on a step); the state after that
  step is saved, and the worker ends with 0.
"""

from __future__ import annotations

import json
import sys
from typing import Any

WORKERS_VARIABLE = "FARANDOLE_WORKERS"
"""Set by the launcher: how many ranks there must be."""
PARENT_VARIABLE = "FARANDOLE_PARENT"
"""Set for Horovod's launcher by the one that starts it: its process id."""

MARK = "@farandole "
"""Before each line that the launcher reads; no other line has it."""


def send(data: dict[str, Any]) -> None:
    """Say something to the launcher. One write for a whole line, so that lines of threads do not mix."""
    sys.stdout.write(MARK + json.dumps(data) + "\n")
    sys.stdout.flush()


def received(line: str) -> tuple[str, dict[str, Any] | None]:
    """A line of a worker's output: what is just output, and what it said, if anything.

    Output may stand before a message in one line, where somebody printed without a line's end.
    """
    output, mark, message = line.partition(MARK)
    return (output, json.loads(message)) if mark else (line, None)
