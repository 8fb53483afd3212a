"""Building blocks of processes: locks, atomic writes, signals, orphans, retries and messages.

The only package that calls `flock`, `os.replace`, `prctl` or sets a handler of SIGTERM. It needs nothing but the
standard library and psutil, so that the smallest process can import it before anything heavy.
"""
