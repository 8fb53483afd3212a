from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from farandole.process.signals import (
    TERMINATED_EXIT_CODE,
    Terminated,
    describe_exit,
    on_sigterm,
    raise_on_sigterm,
    signal_name,
)


@pytest.fixture(autouse=True)
def restore_handler() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_sigterm_raises_and_is_not_taken_for_a_failure() -> None:
    raise_on_sigterm()
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not issubclass(Terminated, Exception)


def test_second_sigterm_is_ignored_on_request() -> None:
    raise_on_sigterm(once=True)
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def test_every_sigterm_raises_by_default() -> None:
    raise_on_sigterm()
    for _ in range(2):
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_can_call_a_function() -> None:
    calls = []
    on_sigterm(lambda: calls.append(1))
    os.kill(os.getpid(), signal.SIGTERM)
    assert calls == [1]


def test_exit_is_described_in_words() -> None:
    assert describe_exit(1) == "ended with exit code 1"
    assert describe_exit(-signal.SIGTERM) == "was killed by signal 15, SIGTERM"
    assert describe_exit(-signal.SIGKILL) == (
        "was killed by signal 9, SIGKILL (the kernel does this when memory runs out)"
    )
    assert signal_name(200) == "unknown"


def test_exit_code_is_what_a_shell_reports() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    done = subprocess.run(["sh", "-c", f"{sys.executable} -c '{code}'; exit $?"], check=False)
    assert done.returncode == TERMINATED_EXIT_CODE
