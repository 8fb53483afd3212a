"""What the pods of a job begin and end with: the spec, the job's folder, a sign of life, and a last word."""

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
from farandole.storage import open_storage, parse_location

_ALIVE = Path("/tmp/alive")
_ALIVE_EVERY_S = 10.0
_LAST_WORD = Path("/dev/termination-log")
_LAST_WORD_CHARACTERS = 3000
_SAY_EVERY_S = 2.0


def run_pod(work: Callable[[], None]) -> NoReturn:
    """Be a pod's process: do the work, say why it failed, end with an exit code."""
    raise_on_sigterm()
    threading.Thread(target=_give_sign, name="alive", daemon=True).start()
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
    """Leave a message that outlives the pod's process, for `status`."""
    with suppress(OSError):  # of no pod, or of one whose runtime does not want it
        _LAST_WORD.write_text(text[-_LAST_WORD_CHARACTERS:], encoding="utf-8")


def load_job() -> Job:
    """The job's spec; its folder has been unpacked.

    Raises:
        EnvironmentLacking: The folder is not what was submitted, or cannot be had.
    """
    spec = Path(JOB_MOUNT) / SPEC
    job = parse_job(json.loads(spec.read_text(encoding="utf-8")), origin=str(spec))
    about: dict[str, Any] = json.loads(os.environ["FARANDOLE_CODE"])
    folder = Path(job.folder or Path.home() / CODE_FOLDER)
    unpack(_package(about.get("place")), about["digest"], folder)
    os.chdir(folder)
    return job


def event_printer() -> Callable[[Event], None]:
    """A watcher that writes lines: of what advances all the time, one every other second."""
    spoken_s = 0.0

    def on_event(event: Event) -> None:
        nonlocal spoken_s
        now_s = time.monotonic()
        if isinstance(event, Progress):
            if now_s - spoken_s < _SAY_EVERY_S:
                return
            spoken_s = now_s
        print(event, flush=True)

    return on_event


def _package(place: str | None) -> bytes:
    if place is None:
        return (Path(JOB_MOUNT) / PACKAGE).read_bytes()
    folder, _, name = place.rpartition("/")
    try:
        return open_storage(parse_location(folder)).read(name)
    except FileNotFoundError:
        raise UnavailableError(f"{place}: the job's folder is not there any more; submit the job again") from None


def _give_sign() -> None:
    while True:
        _ALIVE.touch()
        time.sleep(_ALIVE_EVERY_S)
