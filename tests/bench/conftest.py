from made_data import empty_store, home, made, make_job, write_job

__all__ = ["empty_store", "home", "made", "make_job", "write_job"]
