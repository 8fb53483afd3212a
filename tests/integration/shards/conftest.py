"""The small datasets of `tests.support.small_dataset`."""

from tests.support.small_dataset import dataset, describe, rows, schema

__all__ = ["dataset", "describe", "rows", "schema"]
