"""Files that sources name: local, in zip archives, in object stores. No Spark."""
