"""Parts of the time of a script: it prints a line when a part begins, and the benchmark reads these lines."""

from __future__ import annotations

import json
import time

MARK = "@part "


def begin(part: str) -> None:
    """Announce that a part of the script begins, which ends the part before it."""
    print(MARK + json.dumps([part, time.time()]), flush=True)


def finish(metrics: dict[str, float]) -> None:
    """Announce the test metrics, and that only the end of the process is left."""
    print(json.dumps({"metrics": metrics}), flush=True)
    begin("exit")
