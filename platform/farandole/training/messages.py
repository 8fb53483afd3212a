"""The only words between a worker and its launcher: lines of JSON on standard output, each after a mark.

Standard output reaches the launcher from any machine, by pipe, by SSH or from a pod's log.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MARK = "@farandole "
"""Before each line that the launcher reads; no other line has it."""


def send(data: dict[str, Any]) -> None:
    """Say something to the launcher. One write for a whole line, so that lines of threads do not mix."""
    sys.stdout.write(MARK + json.dumps(data) + "\n")
    sys.stdout.flush()


def received(line: str) -> dict[str, Any] | None:
    """What a worker said in a line of its output; None where it is just output."""
    if not line.startswith(MARK):
        return None
    data: dict[str, Any] = json.loads(line[len(MARK) :])
    return data
