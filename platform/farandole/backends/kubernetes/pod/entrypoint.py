"""Start and end of every pod of a job: the spec, the job's folder, a sign of life, and a termination message."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from farandole.backends.kubernetes.localize import CODE_FOLDER
from farandole.backends.kubernetes.manifests.pods import JOB_MOUNT
from farandole.backends.kubernetes.manifests.store import PACKAGE
from farandole.errors import FarandoleError, UnavailableError
from farandole.events import Event, Progress
from farandole.jobdir.layout import SPEC
from farandole.launch.code_archive import unpack
from farandole.process.signals import TERMINATED_EXIT_CODE, Terminated, raise_on_sigterm
from farandole.spec import Job, parse_job
from farandole.storage import open_storage, parse_location, split_location

_ALIVE = Path("/tmp/alive")
_ALIVE_EVERY_S = 10.0
_TERMINATION_LOG = Path("/dev/termination-log")
_MAX_MESSAGE_CHARACTERS = 3000
_PRINT_EVERY_S = 2.0


def run_pod(work: Callable[[], None]) -> NoReturn:
    """Run a function as a pod's process, report why it failed, and end with an exit code."""
    raise_on_sigterm()
    threading.Thread(target=_touch_alive_file, name="alive", daemon=True).start()
    try:
        work()
    except FarandoleError as error:
        print(f"farandole: {error}", file=sys.stderr)
        if error.detail:
            print(error.detail, file=sys.stderr)
        write_termination_message(str(error))
        sys.exit(error.exit_code)
    except Terminated:
        write_termination_message("terminated; everything that was started has ended")
        sys.exit(TERMINATED_EXIT_CODE)
    sys.exit(0)


def write_termination_message(text: str) -> None:
    """Write a message that outlives the pod's process, for `status`."""
    with suppress(OSError):  # not in a pod, or in one without this file
        _TERMINATION_LOG.write_text(text[-_MAX_MESSAGE_CHARACTERS:], encoding="utf-8")


def load_job() -> Job:
    """Unpack the job's folder, change into it, and return the job.

    Raises:
        UnavailableError: The folder is not the one that was submitted, or cannot be read.
    """
    spec = Path(JOB_MOUNT) / SPEC
    job = parse_job(json.loads(spec.read_text(encoding="utf-8")), origin=str(spec))
    code: dict[str, Any] = json.loads(os.environ["FARANDOLE_CODE"])
    folder = Path(job.folder or Path.home() / CODE_FOLDER)
    unpack(_read_package(code.get("place")), code["digest"], folder)
    os.chdir(folder)
    return job


def event_printer() -> Callable[[Event], None]:
    """Return an event handler that prints lines; of progress, one every other second."""
    printed_s = 0.0

    def on_event(event: Event) -> None:
        nonlocal printed_s
        now_s = time.monotonic()
        if isinstance(event, Progress):
            if now_s - printed_s < _PRINT_EVERY_S:
                return
            printed_s = now_s
        print(event, flush=True)

    return on_event


def _read_package(location: str | None) -> bytes:
    if location is None:
        return (Path(JOB_MOUNT) / PACKAGE).read_bytes()
    folder, name = split_location(location)
    try:
        return open_storage(parse_location(folder)).read(name)
    except FileNotFoundError:
        raise UnavailableError(f"{location}: the job's packed folder was removed; submit the job again") from None


def _touch_alive_file() -> None:
    while True:
        _ALIVE.touch()
        time.sleep(_ALIVE_EVERY_S)
