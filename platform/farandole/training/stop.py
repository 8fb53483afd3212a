"""Stopping on request: at a step on which all ranks agree, with a checkpoint."""

from __future__ import annotations


class Stopped(BaseException):
    """The training stopped because it was asked to, and its state is saved. Like KeyboardInterrupt it is no
    `Exception`: nothing on the way out may take it for a failure.

    Args:
        step: Steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class StopSwitch:
    """Whether this rank has been asked to stop. It may be asked by a signal handler: it takes no lock."""

    def __init__(self) -> None:
        self.asked = False
        self._trained: int | None = None

    def ask(self) -> None:
        """Ask. While steps are made, the trainer looks here after each; afterwards nothing is left to be saved.

        Raises:
            Stopped: All steps are done.
        """
        self.asked = True
        if self._trained is not None:
            raise Stopped(self._trained)

    def all_steps_done(self, step: int) -> None:
        """Hear that no step will follow: from now on whoever asks ends what is being done at once.

        Raises:
            Stopped: It has been asked before.
        """
        self._trained = step
        if self.asked:
            raise Stopped(step)
