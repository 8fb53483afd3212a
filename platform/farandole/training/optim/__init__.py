"""Optimization: gradient buckets and their sum over ranks, the optimizer, its schedule, loss scaling, averaging."""
