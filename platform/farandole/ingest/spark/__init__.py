"""Spark: sessions, data frames, and the functions that run in its Python workers.

One file for each form of source, each kind of pass and each side of a worker, hence 16 files.
"""
