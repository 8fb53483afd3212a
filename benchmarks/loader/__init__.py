"""Loader benchmark: rows per second of shuffled batches, compared with memcpy and other libraries."""
