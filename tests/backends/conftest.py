from made_data import empty_store, home, made, make_job, write_job
from queued import ended, local

__all__ = ["empty_store", "ended", "home", "local", "made", "make_job", "write_job"]
