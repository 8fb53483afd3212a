"""The backend `local`: a detached process for each job, in the order of a small queue, without a daemon.

`queue.py` decides which job is next, `runner.py` is the process that takes jobs from the queue, `job_process.py` the
process that is one job, `mlflow_finalizer.py` the process that closes the MLflow run of a killed job. `backend.py` puts
them together. Names are imported from these modules: a runner needs few of them.
"""
