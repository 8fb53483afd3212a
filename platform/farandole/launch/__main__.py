"""`python -m farandole.launch [--workers N] SCRIPT [ARGUMENT ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from farandole.errors import FarandoleError
from farandole.launch.script import run_script


def main() -> None:
    """Run a script of the user's on several workers, and end with its exit code."""
    parser = argparse.ArgumentParser(prog="python -m farandole.launch", description=main.__doc__)
    parser.add_argument("--workers", type=int, default=1, help="how many processes")
    parser.add_argument("script", type=Path, help="a Python file, which meets the others in farandole.training.world")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    asked = parser.parse_args()
    if asked.workers < 1:
        parser.error(f"--workers: {asked.workers}: at least 1 is needed")
    try:
        sys.exit(run_script(asked.script, asked.arguments, workers=asked.workers))
    except FarandoleError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
