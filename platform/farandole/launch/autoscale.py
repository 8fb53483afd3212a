"""Whether a gang that trains shall go on with another number of workers: somebody asked for it, or hosts came back.

Hosts are surveyed beside the gang: one that is cut off lets SSH wait for seconds, in which the gang has to be watched.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from farandole.events import EventHandler, Message
from farandole.jobdir.scaling import read_scale_request
from farandole.launch.attempt import Attempt
from farandole.launch.hosts import HostSurvey, survey_hosts
from farandole.spec import Job

_LOOK_S = 1.0


class Autoscaler:
    """Looks now and then, for one job.

    Args:
        job: The job.
        directory: Its directory, in which requests lie.
        on_event: Is told of a request that cannot be met.
    """

    def __init__(self, job: Job, directory: Path, on_event: EventHandler) -> None:
        self._job, self._directory, self._watch = job, directory, on_event
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="survey")
        self._looking: Future[HostSurvey] | None = None
        self._told = False
        self._looked_s = self._surveyed_s = 0.0
        self._answered = read_scale_request(directory, job.resources.workers)
        """The last request that was looked at: hosts are not surveyed every second for one that cannot be met."""

    def begin(self) -> None:
        """An attempt begins, with as many of the wanted workers as there is room for."""
        self._answered = read_scale_request(self._directory, self._job.resources.workers)
        self._surveyed_s = time.monotonic()
        self._looking = None

    def is_due(self, attempt: Attempt) -> bool:
        """Whether the gang shall save its state and end, for another one to go on. Only between the first step and the
        last: before, there is nothing to save, and after it nothing to share."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S or attempt.first_step_s is None or attempt.trained:
            return False
        self._looked_s = now_s
        if self._looking is None:
            self._look(attempt, now_s)
            return False
        if not self._looking.done():
            return False
        found, self._looking = self._looking.result(), None
        possible = min(self._answered.workers, found.slots)
        if possible == attempt.workers and not self._told:
            wanted = self._answered.workers
            text = f"{wanted} workers are asked for, and the hosts have no other room than for {possible}"
            self._watch(Message(text, level="warning"))
        fewer_by_accident = possible < attempt.workers and self._answered.workers >= attempt.workers
        return possible != attempt.workers and not fewer_by_accident

    def _look(self, attempt: Attempt, now_s: float) -> None:
        """Begin to survey the hosts, where there is a reason to."""
        request, resources = read_scale_request(self._directory, self._job.resources.workers), self._job.resources
        is_new = request != self._answered or request.workers < attempt.workers  # it came while the attempt began
        every_s = resources.regrow_s
        is_time = every_s is not None and now_s - self._surveyed_s >= every_s and request.workers > attempt.workers
        if not (is_new or is_time):
            return
        self._answered, self._told, self._surveyed_s = request, not is_new, now_s
        if request.workers == attempt.workers:
            return
        self._looking = self._pool.submit(survey_hosts, resources.hosts, request.workers, self._job.backend.hosts)
