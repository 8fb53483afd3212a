"""Readers of raw files: CSV, JSON lines, images and Parquet rows."""
