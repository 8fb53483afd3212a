"""Submits jobs that cost nothing, one after the other: `python -m benchmarks.queue_submitter`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.scratch_queue import ledger_command, small_job
from farandole.backends.local.backend import LocalBackend


def main() -> None:
    """Submit, and print the id of each job when it is taken."""
    parser = argparse.ArgumentParser(prog="benchmarks.queue_submitter")
    parser.add_argument("--ledger", required=True, type=Path, help="where jobs say that they begin and end")
    parser.add_argument("--count", required=True, type=int, help="how many jobs")
    parser.add_argument("--slots", required=True, type=int, help="how many run at once")
    parser.add_argument("--pause", required=True, type=float, help="seconds after each")
    asked = parser.parse_args()
    backend = LocalBackend(slots=asked.slots, command=ledger_command(asked.ledger, asked.pause))
    job = small_job()
    for _ in range(asked.count):
        print(backend.submit(job).id, flush=True)
        time.sleep(asked.pause)


if __name__ == "__main__":
    main()
