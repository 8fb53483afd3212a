"""First process of a Spark executor's pod: it unpacks the job's folder, for sources and the user's own modules."""

from __future__ import annotations

import os

from farandole.backends.kubernetes.pod.entrypoint import load_job, run_pod


def main() -> None:
    """Become the executor. Spark's driver created this pod, and passes the executor's role as an argument."""
    run_pod(_execute)


def _execute() -> None:
    job = load_job()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [job.folder, os.environ.get("PYTHONPATH")]))
    from farandole.ingest.spark.kubernetes_executor import run_executor

    run_executor()


if __name__ == "__main__":
    main()
