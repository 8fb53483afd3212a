"""Autoscaling of a running gang: whether it should continue with another number of workers.

There are two reasons: somebody asked for another size, or missing hosts are available again. Hosts are surveyed in a
separate thread: SSH waits for seconds for a host that is cut off, and the gang must be monitored meanwhile.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from farandole.events import EventHandler, Message, format_count
from farandole.jobdir.scaling import read_scale_request
from farandole.launch.attempt import Attempt
from farandole.launch.hosts import HostSurvey, survey_hosts
from farandole.spec import Job

_CHECK_EVERY_S = 1.0


class Autoscaler:
    """Periodic check of one job's size.

    Args:
        job: The job.
        directory: The job's directory, which holds the requests for another size.
        on_event: Receives a warning for a request that cannot be met.
    """

    def __init__(self, job: Job, directory: Path, on_event: EventHandler) -> None:
        self._job, self._directory, self._on_event = job, directory, on_event
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="survey")
        self._survey: Future[HostSurvey] | None = None
        self._has_warned = False
        self._checked_s = self._surveyed_s = 0.0
        self._handled = read_scale_request(directory, job.resources.workers)
        """The last request that was handled: hosts are not surveyed every second for a request that cannot be met."""

    def start_attempt(self) -> None:
        """Register the start of an attempt, which has as many of the requested workers as there are slots."""
        self._handled = read_scale_request(self._directory, self._job.resources.workers)
        self._surveyed_s = time.monotonic()
        self._survey = None

    def should_rescale(self, attempt: Attempt) -> bool:
        """Return whether the gang should save its state and stop, so that a gang of another size continues.

        This is only the case between the first step and the last one: before, there is no state to save, and after it
        no work to share.
        """
        now_s = time.monotonic()
        if now_s - self._checked_s < _CHECK_EVERY_S or attempt.first_step_s is None or attempt.is_trained:
            return False
        self._checked_s = now_s
        if self._survey is None:
            self._start_survey(attempt, now_s)
            return False
        if not self._survey.done():
            return False
        survey, self._survey = self._survey.result(), None
        requested = self._handled.workers
        possible = min(requested, survey.slots)
        if possible == attempt.workers and not self._has_warned:
            text = f"{format_count(requested, 'worker')} are requested, but the hosts only have slots for {possible}"
            self._on_event(Message(text, level="warning"))
        is_accidental_loss = possible < attempt.workers <= requested
        return possible != attempt.workers and not is_accidental_loss

    def _start_survey(self, attempt: Attempt, now_s: float) -> None:
        """Start a survey of the hosts if there is a reason for one."""
        request, resources = read_scale_request(self._directory, self._job.resources.workers), self._job.resources
        # A request for fewer workers may have arrived while the attempt was starting.
        is_new = request != self._handled or request.workers < attempt.workers
        every_s = resources.regrow_s
        is_due = every_s is not None and now_s - self._surveyed_s >= every_s and request.workers > attempt.workers
        if not (is_new or is_due):
            return
        self._handled, self._has_warned, self._surveyed_s = request, not is_new, now_s
        if request.workers == attempt.workers:
            return
        self._survey = self._pool.submit(survey_hosts, resources.hosts, request.workers, self._job.backend.hosts)
