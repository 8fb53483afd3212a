"""Process that submits jobs without work, one after the other: `python -m benchmarks.queue.submitter`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.queue.scratch_queue import ledger_command, small_job
from farandole.backends.local.backend import LocalBackend


def main() -> None:
    """Submit, and print the id of each job once it is accepted."""
    parser = argparse.ArgumentParser(prog="benchmarks.queue.submitter")
    parser.add_argument("--ledger", required=True, type=Path, help="file to which jobs write their begin and end")
    parser.add_argument("--count", required=True, type=int, help="number of jobs")
    parser.add_argument("--slots", required=True, type=int, help="number of jobs that run at once")
    parser.add_argument("--pause", required=True, type=float, help="seconds after each submission")
    arguments = parser.parse_args()
    backend = LocalBackend(slots=arguments.slots, command=ledger_command(arguments.ledger, arguments.pause))
    job = small_job()
    for _ in range(arguments.count):
        print(backend.submit(job).id, flush=True)
        time.sleep(arguments.pause)


if __name__ == "__main__":
    main()
