"""SIGTERM as an exception or a callback, and exit codes in words."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

TERMINATED_EXIT_CODE = 128 + signal.SIGTERM
"""The exit code of a process that ended because of SIGTERM, as shells report it."""


class Terminated(BaseException):
    """SIGTERM as an exception, so that every `finally` on the way out ends what it started.

    Like KeyboardInterrupt it is not an `Exception`: nothing may take it for a failure.
    """


def raise_on_sigterm(*, once: bool = False) -> None:
    """Let SIGTERM raise `Terminated` in the main thread of this process.

    Args:
        once: Whether to ignore every further SIGTERM, so that nothing disturbs the way out.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if once:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)


def on_sigterm(action: Callable[[], None]) -> None:
    """Let SIGTERM call a function in the main thread of this process; it must not take a lock."""
    signal.signal(signal.SIGTERM, lambda number, frame: action())


def signal_name(number: int) -> str:
    """Return a signal's name, `SIGKILL`, or `unknown`."""
    return signal.Signals(number).name if number in set(signal.Signals) else "unknown"


def describe_exit(code: int) -> str:
    """Describe how a process ended, as the end of a sentence: `ended with exit code 1`.

    Args:
        code: The exit code, or the negative number of the signal that killed it, as `Popen.returncode` has it.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    hint = " (the kernel does this when memory runs out)" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code}, {signal_name(-code)}{hint}"
