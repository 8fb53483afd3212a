"""Entry point of `python -m farandole.launch [--workers N] SCRIPT [ARGUMENT ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from farandole.errors import FarandoleError
from farandole.launch.script import run_script


def main() -> None:
    """Run a Python script on several workers and exit with its exit code."""
    parser = argparse.ArgumentParser(prog="python -m farandole.launch", description=main.__doc__)
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("script", type=Path, help="a Python file that calls farandole.training.world.init()")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    parsed = parser.parse_args()
    if parsed.workers < 1:
        parser.error(f"--workers: {parsed.workers}: at least 1 is needed")
    try:
        sys.exit(run_script(parsed.script, parsed.arguments, workers=parsed.workers))
    except FarandoleError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
