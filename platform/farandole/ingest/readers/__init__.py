"""Readers of source files: bytes to Arrow batches of typed rows and malformed records. No Spark."""
