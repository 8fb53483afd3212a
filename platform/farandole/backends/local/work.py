"""The process that is one job: `python -m farandole.backends.local.work --directory DIR`.

It prepares and trains, as `farandole run` does, from the serialized spec in the job's directory. When its runner dies,
it saves the state of the training, ends, and sees to it that the queue goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue
from farandole.backends.local.told import Telling, note_outcome, note_result
from farandole.errors import FarandoleError
from farandole.progress import Watcher
from farandole.spec import Job, home, parse_job
from farandole.training.messages import PARENT_VARIABLE
from farandole.training.parent import end_with_parent

Do = Callable[[Job, Path, Watcher], dict[str, Any]]
"""Does a job in its directory, and returns its result document."""


class _Ended(BaseException):
    """SIGTERM, as an exception: so that every `finally` on the way out ends what it started."""


def main() -> None:
    """Be a job that runs on this machine."""
    be_job(prepare_and_train)


def be_job(do: Do) -> None:
    """Be a job's process from start to end.

    Args:
        do: What the job is.
    """
    signal.signal(signal.SIGTERM, _end)
    end_with_parent(signal.SIGTERM)
    runner = int(os.environ.pop(PARENT_VARIABLE))
    directory = _directory()
    try:
        code = _do(do, directory) if os.getppid() == runner else 128 + signal.SIGTERM
    finally:
        if os.getppid() != runner:
            Queue(home()).tend()
    sys.exit(code)


def prepare_and_train(job: Job, directory: Path, watch: Watcher) -> dict[str, Any]:
    """What `farandole run` does. A job that is tried again goes on from its last checkpoint."""
    from farandole.ingest.prepare import prepare
    from farandole.launch import train

    prepared = prepare(job, watch)
    return train(job, watch, register=True, directory=directory).document(job.name, prepared.to_dict())


def _do(do: Do, directory: Path) -> int:
    try:
        spec = directory / "job.json"
        job = parse_job(json.loads(spec.read_text(encoding="utf-8")), place=str(spec))
        document = do(job, directory, Telling(directory))
    except FarandoleError as error:
        note_outcome(directory, str(error))
        if error.detail:
            print(error.detail, file=sys.stderr, flush=True)
        return error.exit_code
    except _Ended:
        note_outcome(directory, "ended by SIGTERM")
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - a fault of ours or of the user's code: told, and the job has failed
        note_outcome(directory, f"{type(error).__name__}: {error}; the log has more")
        traceback.print_exc()
        return 1
    note_result(directory, document)
    note_outcome(directory, f"trained {document['model']['uri']}")
    return 0


def _end(signal_number: int, frame: Any) -> None:
    raise _Ended


def _directory() -> Path:
    parser = argparse.ArgumentParser(prog="farandole.backends.local.work")
    parser.add_argument("--directory", required=True, type=Path, help="the job's directory, with its spec")
    directory: Path = parser.parse_args().directory
    return directory


if __name__ == "__main__":
    main()
