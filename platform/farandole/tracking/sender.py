"""The one thread that sends what a spool holds, in order, however long the store is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from farandole.events import EventHandler, Message
from farandole.tracking.delivery import AuthError, Delivery, PermanentError, TransientError
from farandole.tracking.spool import Entry, Operation, Spool

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_BETWEEN_METRICS_S = 1.0
"""Metrics of a second go in one request: requests take processor time from the training."""
_MOST = 500
"""Operations that are looked at together."""

Tell = Callable[[str, bool], None]
"""Gets a text, and whether it is a warning."""


def teller(on_event: EventHandler) -> Tell:
    """Tells a watcher."""
    return lambda text, is_warning: on_event(Message(text, level="warning" if is_warning else "info"))


class Sender:
    """Sends a spool's operations until it is stopped; never raises into the job.

    Args:
        spool: What waits.
        delivery: The way to the store.
        tell: Is told when the store stops answering, and when it answers again.
        store: What the store is called in texts.
    """

    def __init__(self, spool: Spool, delivery: Delivery, tell: Tell, store: str) -> None:
        self._spool, self._delivery, self._tell, self._store = spool, delivery, tell, store
        self._state = threading.Condition()
        self._stopped = self._hurried = self._woken = False
        self._asked = False
        self._first_error: Exception | None = None
        self._failing_since: float | None = None
        self._away_told = self._refused_told = False
        self._disk_told = False
        self._thread = threading.Thread(target=self._send_all, name="tracking", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def first_answer(self, within_s: float) -> Exception | None:
        """Wait for what the store says first; returns why it took nothing: `Refused`, `Unreachable`, or None.

        After `Refused` or `Rejected` nothing more is sent: whoever began may mend the store's address first.
        """
        with self._state:
            if not self._state.wait_for(lambda: self._asked, within_s):
                self._asked = True
                # Its request may still be answered: this is a word to the reader, and no failure.
                self._first_error = TransientError(f"no answer for {within_s:g} s")
                self._tell_away(self._first_error)
            return self._first_error

    def wake(self) -> None:
        """There is more to send."""
        with self._state:
            self._woken = True
            self._state.notify_all()

    def settle(self, patience_s: float) -> bool:
        """Wait until all is sent; gives up when the store has not answered for `patience_s`.

        Returns:
            Whether all is sent.
        """
        began = time.monotonic()
        with self._state:
            self._hurried = True
            self._state.notify_all()
            while self._spool.waiting and self._thread.is_alive():
                since = self._failing_since
                if since is not None and time.monotonic() - max(since, began) > patience_s:
                    break
                self._state.wait(0.1)
            self._hurried = False
        return not self._spool.waiting

    def stop(self) -> bool:
        """Send nothing more. A request that is under way is given a moment; returns whether it has ended."""
        with self._state:
            self._stopped = True
            self._state.notify_all()
        self._thread.join(timeout=2.0)
        return not self._thread.is_alive()

    # In the thread ---------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopped:
            self._spool.flush()
            self._watch_disk()
            entries = self._spool.next(_MOST)
            if not entries:
                self._sleep_until_woken()
                continue
            try:
                self._send(entries)
            except (AuthError, PermanentError, TransientError) as error:
                if self._failed(error):
                    return
                self._sleep(pause_s * random.uniform(0.75, 1.25))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S
                self._answered()
                if entries[0].operation["op"] == "metrics":
                    self._sleep(_BETWEEN_METRICS_S)

    def _send(self, entries: list[Entry]) -> None:
        operations = [entry.operation for entry in entries]
        first = operations[0]
        try:
            count = self._delivery.deliver(operations, self._spool.place(""))
        except PermanentError as error:
            if first["op"] == "open":
                raise  # nothing that follows can be sent either
            self._reject(first, str(error))
            count = 1
        except TransientError:
            behind = {operation["op"] for operation in operations[1:]} - {"file", "model"}
            if not behind or not self._delivery.may_come_later(first):
                raise
            self._spool.append(first)
            self._spool.acknowledge(entries[0])
            return
        for operation in operations[:count]:
            if operation["op"] in ("file", "model"):
                self._spool.discard(operation.get("place") or operation["file"])
        self._spool.acknowledge(entries[count - 1], count)

    def _reject(self, operation: Operation, reason: str) -> None:
        """Set aside what the store will never take, and no more than that."""
        reasons = self._delivery.deliver_points(operation) if operation["op"] == "metrics" else [reason]
        for reason in reasons:
            self._spool.refuse(operation, reason)
            self._tell(f"{self._store}: MLflow does not take {_shown(operation)} ({reason})", True)

    def _failed(self, error: Exception) -> bool:
        """Note that the store took nothing; returns whether to give up."""
        with self._state:
            first, self._asked = not self._asked, True
            if first:
                self._first_error = error
            if first and not isinstance(error, TransientError):
                self._state.notify_all()
                return True
            self._note_failure(error)
            self._state.notify_all()
        return False

    def _note_failure(self, error: Exception) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._away_told and isinstance(error, AuthError) and not self._refused_told:
            self._refused_told = True
            self._tell(f"{self._store}: MLflow refuses what waits ({error}); it is tried again", True)
        self._tell_away(error)

    def _tell_away(self, error: Exception) -> None:
        if not self._away_told:
            self._away_told = True
            self._tell(
                f"{self._store}: the MLflow store does not answer ({error}); the job goes on, what is to be recorded"
                f" waits in {self._spool.directory}",
                True,
            )

    def _answered(self) -> None:
        with self._state:
            self._asked, self._failing_since = True, None
            if self._away_told:
                self._away_told = self._refused_told = False
                self._tell(f"{self._store}: MLflow answers; what waited is being sent", False)
            self._state.notify_all()

    def _watch_disk(self) -> None:
        problem = self._spool.problem
        if problem is not None and not self._disk_told:
            self._tell(f"{self._spool.directory}: {problem.strerror}; what is to be recorded waits in memory", True)
        self._disk_told = problem is not None

    def _sleep_until_woken(self) -> None:
        with self._state:
            self._state.wait_for(lambda: self._woken or self._stopped, _BETWEEN_METRICS_S)
            self._woken = False

    def _sleep(self, seconds: float) -> None:
        """Rest, unless someone waits at the end, or stops; a failing store is given a moment all the same."""
        until = time.monotonic() + seconds
        with self._state:
            while not self._stopped and (left := until - time.monotonic()) > 0:
                if self._hurried and (self._failing_since is None or seconds > 1.0):
                    if self._failing_since is not None:
                        self._state.wait(0.5)
                    return
                self._state.wait(left)


def _shown(operation: Operation) -> str:
    names = {"metrics": "points", "params": "params", "tags": "tags"}.get(operation["op"])
    if names is None:
        return str(operation["op"])
    held = [point[0] for point in operation[names]] if names == "points" else list(operation[names])
    return f"{operation['op']} {', '.join(held[:5])}"
