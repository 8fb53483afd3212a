"""Recording of jobs in MLflow. Only this package and `serving.registry`, which reads what was recorded, import MLflow.

Nothing is imported here: `store` and `run_link` are cheap, whereas `recorder` and `model` import MLflow, which takes
seconds. The store, its client, the spool and what is sent by it are small modules side by side, hence 16 files.
"""
