"""Recording of jobs in MLflow, and the only package that imports it.

Nothing is imported here: `store` and `run_link` are cheap, whereas `recorder` and `model` import MLflow, which takes
seconds.
"""
