"""The thread that sends a spool's operations in order, however long the store is unavailable."""

from __future__ import annotations

import threading
import time

from farandole.events import EventHandler, Message
from farandole.process.retry import Backoff
from farandole.tracking.client import DeliveryError, PermanentError, TransientError, UnusableStoreError
from farandole.tracking.delivery import Delivery
from farandole.tracking.spool import Operation, Spool, SpooledOperation

_BACKOFF = Backoff(first_s=0.5, longest_s=30.0, jitter=0.25)
_METRICS_INTERVAL_S = 1.0
"""Metrics are collected for this time and sent in one request, since requests take CPU time from the training."""
_FAILING_STORE_PAUSE_S = 0.5
_LOOK_AHEAD = 500
"""Number of operations that are read from the spool together."""


class Sender:
    """A thread that sends a spool's operations until it is stopped; it never raises into the job.

    Args:
        spool: The spool.
        delivery: The writer to the store.
        on_event: Receives a warning when the store stops answering, and a message when it answers again.
        store: Name of the store in messages.
    """

    def __init__(self, spool: Spool, delivery: Delivery, on_event: EventHandler, store: str) -> None:
        self._spool, self._delivery, self._on_event, self._store = spool, delivery, on_event, store
        self._state = threading.Condition()
        self._stopped = self._draining = self._woken = False
        self._has_answered = False
        self._first_error: DeliveryError | None = None
        self.last_error: DeliveryError | None = None
        """The reason why the newest operation was not accepted; None once the store accepts operations."""
        self._failing_since: float | None = None
        self._outage_reported = self._rejection_reported = False
        self._disk_error_reported = False
        self._thread = threading.Thread(target=self._send_all, name="tracking", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def first_answer(self, timeout_s: float) -> DeliveryError | None:
        """Wait for the store's first answer; return the error, or None if it accepted an operation.

        After an `UnusableStoreError` or a `PermanentError`, nothing more is sent: the user can correct the URI first.
        """
        with self._state:
            if not self._state.wait_for(lambda: self._has_answered, timeout_s):
                self._has_answered = True
                # The request may still succeed, so this is a message to the user and not a failure.
                self._first_error = TransientError(f"no answer for {timeout_s:g} s")
                self._report_outage(self._first_error)
            return self._first_error

    def wake(self) -> None:
        """Announce that the spool holds more operations."""
        with self._state:
            self._woken = True
            self._state.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is sent, or the store has not answered for `timeout_s`.

        Returns:
            True if everything is sent.
        """
        began = time.monotonic()
        with self._state:
            self._draining = True
            self._state.notify_all()
            while self._spool.pending and self._thread.is_alive():
                since = self._failing_since
                if since is not None and time.monotonic() - max(since, began) > timeout_s:
                    break
                self._state.wait(0.1)
            self._draining = False
        return not self._spool.pending

    def stop(self) -> bool:
        """Stop sending, and give a running request two seconds; return True if the thread has ended."""
        with self._state:
            self._stopped = True
            self._state.notify_all()
        self._thread.join(timeout=2.0)
        return not self._thread.is_alive()

    # In the thread ---------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        failures = 0
        while not self._stopped:
            self._spool.flush()
            self._check_disk()
            operations = self._spool.peek(_LOOK_AHEAD)
            if not operations:
                self._sleep_until_woken()
                continue
            try:
                self._send(operations)
            except DeliveryError as error:
                if self._handle_failure(error):
                    return
                failures += 1
                self._sleep(_BACKOFF.pause_s(failures))
            else:
                failures = 0
                self._handle_answer()
                if operations[0].operation["op"] == "metrics":
                    self._sleep(_METRICS_INTERVAL_S)

    def _send(self, spooled: list[SpooledOperation]) -> None:
        operations = [entry.operation for entry in spooled]
        first = operations[0]
        try:
            count = self._delivery.deliver(operations, self._spool.files)
        except PermanentError as error:
            if first["op"] == "open":
                raise  # without a run, no other operation can be sent
            self._reject(first, str(error))
            count = 1
        except TransientError:
            others = {operation["op"] for operation in operations[1:]} - {"file", "model"}
            if not others or not self._delivery.can_be_postponed(first):
                raise
            self._spool.append(first)
            self._spool.acknowledge(spooled[0])
            return
        for operation in operations[:count]:
            if operation["op"] in ("file", "model"):
                self._spool.discard_files(operation.get("place") or operation["file"])
        self._spool.acknowledge(spooled[count - 1], count)

    def _reject(self, operation: Operation, reason: str) -> None:
        """Set aside an operation that the store will never accept; of several metrics, deliver the valid ones."""
        reasons = self._delivery.deliver_points(operation) if operation["op"] == "metrics" else [reason]
        for reason in reasons:
            self._spool.set_aside(operation, reason)
            self._warn(
                f"{self._store}: MLflow rejected {_describe(operation)} ({reason}); it is kept in"
                f" {self._spool.directory}"
            )

    def _handle_failure(self, error: DeliveryError) -> bool:
        """Record that the store accepted nothing; return True if the thread must give up."""
        with self._state:
            is_first, self._has_answered, self.last_error = not self._has_answered, True, error
            if is_first:
                self._first_error = error
            if is_first and not isinstance(error, TransientError):
                self._state.notify_all()
                return True
            self._report_failure(error)
            self._state.notify_all()
        return False

    def _report_failure(self, error: DeliveryError) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._outage_reported and isinstance(error, UnusableStoreError) and not self._rejection_reported:
            self._rejection_reported = True
            self._warn(f"{self._store}: MLflow rejects the pending records ({error}); they are retried")
        self._report_outage(error)

    def _report_outage(self, error: DeliveryError) -> None:
        if not self._outage_reported:
            self._outage_reported = True
            self._warn(
                f"{self._store}: the MLflow store does not answer ({error}); the job continues and keeps its records in"
                f" {self._spool.directory}"
            )

    def _handle_answer(self) -> None:
        with self._state:
            self._has_answered, self._failing_since, self.last_error = True, None, None
            if self._outage_reported:
                self._outage_reported = self._rejection_reported = False
                self._on_event(Message(f"{self._store}: MLflow answers again; sending the pending records"))
            self._state.notify_all()

    def _check_disk(self) -> None:
        error = self._spool.disk_error
        if error is not None and not self._disk_error_reported:
            self._warn(
                f"{self._spool.directory}: {error.strerror}; records for MLflow are held in memory until there is space"
            )
        self._disk_error_reported = error is not None

    def _warn(self, text: str) -> None:
        self._on_event(Message(text, level="warning"))

    def _sleep_until_woken(self) -> None:
        with self._state:
            self._state.wait_for(lambda: self._woken or self._stopped, _METRICS_INTERVAL_S)
            self._woken = False

    def _sleep(self, seconds: float) -> None:
        """Sleep, but not if the thread is stopped, and only briefly for a failing store while the spool is drained."""
        until = time.monotonic() + seconds
        with self._state:
            while not self._stopped and (remaining := until - time.monotonic()) > 0:
                if self._draining and (self._failing_since is None or seconds > 1.0):
                    if self._failing_since is not None:
                        self._state.wait(_FAILING_STORE_PAUSE_S)
                    return
                self._state.wait(remaining)


def _describe(operation: Operation) -> str:
    """Name an operation and the first five of its metrics, params or tags."""
    field = {"metrics": "points", "params": "params", "tags": "tags"}.get(operation["op"])
    if field is None:
        return str(operation["op"])
    names = [point[0] for point in operation[field]] if field == "points" else list(operation[field])
    return f"{operation['op']} {', '.join(names[:5])}"
