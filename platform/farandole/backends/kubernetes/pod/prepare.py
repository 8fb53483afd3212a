"""First process of the preparation's pod: Spark's driver, whose executors are pods that Spark creates."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from farandole.backends.kubernetes.manifests.names import QUEUE
from farandole.backends.kubernetes.pod.entrypoint import event_printer, load_job, run_pod
from farandole.errors import UnavailableError

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

_DEFAULTS = "spark-defaults.conf"


def main() -> None:
    """Prepare the dataset, then let the training begin."""
    run_pod(_prepare)


def _prepare() -> None:
    job = load_job()
    os.environ["SPARK_CONF_DIR"] = _own_settings(os.environ["SPARK_CONF_DIR"], os.environ["FARANDOLE_POD"])
    from farandole import pipeline

    checked = pipeline.check(job, ["prepare"], needs_builder=False)  # only the workers' image may have its module
    if job.has_data:
        prepared = pipeline.prepare(checked, event_printer())
        print(json.dumps({"dataset": prepared.to_dict()}), flush=True)
    name = os.environ.get("FARANDOLE_RELEASES")
    if name:
        from farandole.backends.kubernetes.cluster import connect

        cluster = connect(None, os.environ["FARANDOLE_NAMESPACE"])
        if not unsuspend(cluster, name, os.environ.get("FARANDOLE_QUEUE") or None):
            raise UnavailableError(f"MPIJob {name}: was deleted, so no training starts; submit the job again")


def _own_settings(shared: str, pod: str) -> str:
    """Return a folder with Spark's settings, and with this pod's name, which becomes the owner of its executors."""
    folder = Path(tempfile.mkdtemp(prefix="spark-conf-"))
    shutil.copy(Path(shared) / _DEFAULTS, folder / _DEFAULTS)
    with (folder / _DEFAULTS).open("a", encoding="utf-8") as file:
        file.write(f"spark.kubernetes.driver.pod.name {pod}\n")
    return str(folder)


def unsuspend(cluster: Cluster, name: str, queue: str | None) -> bool:
    """Let a suspended MPIJob begin: at once, or when Kueue, which notices the label, admits it from its queue.

    Returns:
        Whether the MPIJob exists.
    """
    if queue is not None:
        return cluster.patch("MPIJob", name, {"metadata": {"labels": {QUEUE: queue}}}) is not None
    return cluster.patch("MPIJob", name, {"spec": {"runPolicy": {"suspend": False}}}) is not None


if __name__ == "__main__":
    main()
