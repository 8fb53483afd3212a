"""Runs, metrics and models in MLflow. The only door to it.

Nothing is imported here: `store` is cheap, `recorder` and `model` bring MLflow itself, which takes seconds.
"""
