"""First process of the launcher's pod: it starts the supervisor, and frees the workers however the supervisor ends.

A supervisor that is killed, for lack of memory for example, cannot clean up. This process does little, needs little,
and only the node itself can kill it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from farandole.backends.kubernetes.pod.entrypoint import write_termination_message
from farandole.process.signals import on_sigterm, signal_name

_SUPERVISOR = "farandole.backends.kubernetes.pod.supervisor"


def main() -> None:
    """Run the supervisor, and exit with its exit code."""
    child = subprocess.Popen([sys.executable, "-m", _SUPERVISOR])
    on_sigterm(child.terminate)
    code = _wait(child.pid)
    child.returncode = code
    free_workers()
    if code < 0:
        hint = ": out of memory?" if code == -signal.SIGKILL else ""
        write_termination_message(f"the launcher was killed by {signal_name(-code)}{hint}")
    sys.exit(code if code >= 0 else 128 - code)


def _wait(pid: int) -> int:
    """Wait for one child, and reap all others: in a pod, the first process inherits orphans."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def free_workers() -> None:
    """Scale the workers down to none, so that no GPU idles."""
    name = os.environ["FARANDOLE_WORKERS_OBJECT"]
    if os.environ.get("FARANDOLE_STYLE") == "mpijob":
        return  # the operator does it, by the MPIJob's cleanPodPolicy
    from farandole.backends.kubernetes.cluster import connect
    from farandole.backends.kubernetes.pod.worker_pods import WorkerPods
    from farandole.errors import UnavailableError

    cluster = connect(None, os.environ["FARANDOLE_NAMESPACE"])
    workers = WorkerPods(cluster, os.environ["FARANDOLE_JOB_ID"], name, 1)
    while True:
        try:
            workers.scale(0)
        except UnavailableError as error:  # the API is down; the GPUs would stay allocated if this process ended
            print(f"warning: {error}", flush=True)
        else:
            return


if __name__ == "__main__":
    main()
