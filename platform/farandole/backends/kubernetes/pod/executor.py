"""The pod of one of Spark's executors: the job's folder is there, for sources and modules of the user's own."""

from __future__ import annotations

import os

from farandole.backends.kubernetes.pod.entrypoint import load_job, run_pod


def main() -> None:
    """Become the executor. Spark's driver started this process, and names the part it has to play as its argument."""
    run_pod(_execute)


def _execute() -> None:
    job = load_job()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [job.folder, os.environ.get("PYTHONPATH")]))
    from farandole.ingest.spark.kubernetes_executor import run_executor

    run_executor()


if __name__ == "__main__":
    main()
