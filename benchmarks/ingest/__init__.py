"""Ingest benchmark: rows per second from raw CSV to a dataset, compared with Spark's own Parquet."""
