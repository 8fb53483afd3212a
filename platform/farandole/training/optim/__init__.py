"""Optimizers, schedules, precision and gradient synchronization."""
