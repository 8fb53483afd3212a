"""The launcher's pod: its first process. It starts the supervisor, and frees the workers however that one ends.

A supervisor that is killed, for lack of memory say, cannot clean up; this process does little, needs little, and in a
pod nobody but the node itself can kill it.
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
    """Run the supervisor, and end as it ended."""
    child = subprocess.Popen([sys.executable, "-m", _SUPERVISOR])
    on_sigterm(child.terminate)
    code = _wait(child.pid)
    child.returncode = code
    free_workers()
    if code < 0:
        name = signal_name(-code)
        write_termination_message(
            f"the launcher was ended by {name}" + (": out of memory?" if code == -signal.SIGKILL else "")
        )
    sys.exit(code if code >= 0 else 128 - code)


def _wait(pid: int) -> int:
    """Wait for one child, and see off all others: what has lost its parent in a pod becomes its first process's."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def free_workers() -> None:
    """Want no workers any more, so that no GPU idles."""
    name = os.environ["FARANDOLE_WORKERS_OBJECT"]
    if os.environ.get("FARANDOLE_STYLE") == "mpijob":
        return  # the operator sees to it, by the MPIJob's cleanPodPolicy
    from farandole.backends.kubernetes.cluster import connect
    from farandole.backends.kubernetes.pod.worker_pods import WorkerPods
    from farandole.errors import UnavailableError

    cluster = connect(None, os.environ["FARANDOLE_NAMESPACE"])
    workers = WorkerPods(cluster, os.environ["FARANDOLE_JOB_ID"], name, 1)
    while True:
        try:
            workers.scale(0)
        except UnavailableError as error:  # the API is away: who left now would leave the GPUs behind
            print(f"warning: {error}", flush=True)
        else:
            return


if __name__ == "__main__":
    main()
