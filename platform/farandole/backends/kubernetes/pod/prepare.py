"""The preparation's pod: Spark's driver. Its executors are pods that Spark makes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from farandole.backends.kubernetes.pod.entrypoint import event_printer, load_job, run_pod
from farandole.errors import UnavailableError

_DEFAULTS = "spark-defaults.conf"


def main() -> None:
    """Prepare the dataset, then let the training begin."""
    run_pod(_prepare)


def _prepare() -> None:
    job = load_job()
    os.environ["SPARK_CONF_DIR"] = _own_settings(os.environ["SPARK_CONF_DIR"], os.environ["FARANDOLE_POD"])
    from farandole import pipeline

    checked = pipeline.check(job, ["prepare"], finds_builder=False)  # its module may be in the workers' image alone
    prepared = pipeline.prepare(checked, event_printer())
    print(json.dumps({"dataset": prepared.to_dict()}), flush=True)
    if os.environ.get("FARANDOLE_RELEASES"):
        _release(os.environ["FARANDOLE_RELEASES"], os.environ.get("FARANDOLE_QUEUE") or None)


def _own_settings(shared: str, pod: str) -> str:
    """Spark's settings, and by whose name executors go when this pod goes."""
    folder = Path(tempfile.mkdtemp(prefix="spark-conf-"))
    shutil.copy(Path(shared) / _DEFAULTS, folder / _DEFAULTS)
    with (folder / _DEFAULTS).open("a", encoding="utf-8") as file:
        file.write(f"spark.kubernetes.driver.pod.name {pod}\n")
    return str(folder)


def _release(name: str, queue: str | None) -> None:
    """Let an MPIJob begin: at once, or when its queue says so."""
    from farandole.backends.kubernetes.cluster import connect
    from farandole.backends.kubernetes.unsuspend import unsuspend

    if not unsuspend(connect(None, os.environ["FARANDOLE_NAMESPACE"]), name, queue):
        raise UnavailableError(f"MPIJob {name}: is gone, so nothing is trained; submit the job again")


if __name__ == "__main__":
    main()
