"""Sweeps: train a job many times with different values and find the best. The only package that imports Optuna.

Nothing is imported here: `trial_process`, the process of each trial, needs neither Optuna nor MLflow.
"""
