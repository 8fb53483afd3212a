"""Locks, atomic writes, signals, parent death, orphans, out-of-memory kills and messages between processes."""
