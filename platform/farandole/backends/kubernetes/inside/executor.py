"""The pod of one of Spark's executors: the job's folder is there, for sources and modules of the user's own."""

from __future__ import annotations

import os

from farandole.backends.kubernetes.inside.pod import be, job_of_pod


def main() -> None:
    """Become the executor. Spark's driver started this process, and names the part it has to play as its argument."""
    be(_execute)


def _execute() -> None:
    job = job_of_pod()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [job.folder, os.environ.get("PYTHONPATH")]))
    from farandole.ingest.spark_executor import be_executor

    be_executor()


if __name__ == "__main__":
    main()
