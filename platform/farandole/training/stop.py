"""Stop on request: after a step that all ranks agree on, with a checkpoint. Imports no torch."""

from __future__ import annotations


class Stopped(BaseException):
    """Training stopped on request, and its state is saved.

    Like KeyboardInterrupt this is not an `Exception`: nothing on the way out may treat it as a failure.

    Args:
        step: Number of completed steps.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class StopSwitch:
    """Stop request of this rank. Takes no lock, so that a signal handler may set it."""

    def __init__(self) -> None:
        self.is_requested = False
        self._final_step: int | None = None

    def request(self) -> None:
        """Request a stop. During training the trainer checks for it after each step.

        Raises:
            Stopped: All steps are done, so nothing is left to save.
        """
        self.is_requested = True
        if self._final_step is not None:
            raise Stopped(self._final_step)

    def finish_steps(self, step: int) -> None:
        """Record that no further step follows; from now on a request takes effect at once.

        Raises:
            Stopped: A stop was requested before.
        """
        self._final_step = step
        if self.is_requested:
            raise Stopped(step)
