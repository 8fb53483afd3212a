"""What passes between a worker and its launcher: a few variables, and marked lines of JSON on standard output.

Standard output reaches the launcher from any machine, by pipe, by SSH or from a pod's log. Each line is one object
with an `event`:

    alive       rank, pid, step, epoch, moves: once a second from each worker; `step` is null before its first one,
                `moves` counts steps and evaluated batches
    met         workers: from the chief, all are there
    mlflow_run  id: from the chief, when the store has made the MLflow run
    failed      rank, time_s, step, kind, message, detail: why a worker ends; `kind` is a name of `errors.ERRORS`, or
                `PeerLost`: this worker is a victim of another one's end
    stopped     step: a stop was asked for by SIGTERM; the state is saved, exit code 0 follows
    result      dataset, training, model: from the chief, the training is complete
    (others)    an event of `progress.py`

The launcher's own process speaks to the supervisor in the same way: `started` (rank, pid) and `exited` (rank, code or
signal, time_s).
"""

from __future__ import annotations

import json
import sys
from typing import Any

WORKERS_VARIABLE = "FARANDOLE_WORKERS"
"""Set by the launcher: how many ranks there must be."""
PARENT_VARIABLE = "FARANDOLE_PARENT"
"""Set for Horovod's launcher by the one that starts it: its process id."""
GANG_VARIABLE = "FARANDOLE_GANG"
"""Set for all processes of a job's gangs, and inherited by whatever they start: the job's directory. Who is left over
is found by it."""

MESSAGE_PREFIX = "@farandole "
"""Before each line that the launcher reads; no other line has it."""


def send_message(data: dict[str, Any]) -> None:
    """Say something to the launcher. One write for a whole line, so that lines of threads do not mix."""
    sys.stdout.write(MESSAGE_PREFIX + json.dumps(data) + "\n")
    sys.stdout.flush()


def parse_line(line: str) -> tuple[str, dict[str, Any] | None]:
    """A line of a worker's output: what is just output, and what it said, if anything.

    Output may stand before a message in one line, where somebody printed without a line's end. A line that has the
    mark and no message behind it, as when a user prints such a text or a worker dies while it speaks, is output.
    """
    output, mark, message = line.partition(MESSAGE_PREFIX)
    if not mark:
        return line, None
    try:
        data = json.loads(message)
    except ValueError:
        return line, None
    return (output, data) if isinstance(data, dict) and isinstance(data.get("event"), str) else (line, None)
