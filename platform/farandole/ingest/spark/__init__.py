"""Spark: sessions, data frames, and the functions that run in its Python workers."""
