"""Trains a job many times with other values, and finds the best. The only door to Optuna.

Nothing is imported here: `process`, which each trial is, needs neither Optuna nor MLflow.
"""
