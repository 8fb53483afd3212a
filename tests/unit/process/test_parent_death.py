from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from farandole.process.parent_death import PARENT_VARIABLE, Parent, named_parent
from tests.support.queued import wait_for_end

_PARENT = """
import subprocess, sys
code = '''
import signal, time
from farandole.process.parent_death import signal_on_parent_death
signal_on_parent_death(signal.SIGKILL)
print("ready", flush=True)
time.sleep(300)
'''
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_child_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for_end(child)


def test_parent_is_named_by_a_variable_that_children_do_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, str(os.getppid()))
    assert named_parent() == Parent(os.getppid())
    assert Parent(os.getppid()).is_alive
    assert PARENT_VARIABLE not in os.environ
    assert not Parent(os.getpid()).is_alive
