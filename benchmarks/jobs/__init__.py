"""Benchmarks of whole jobs: time to the first step, and recovery from kills."""
