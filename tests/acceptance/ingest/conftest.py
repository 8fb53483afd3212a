from tests.support.ingest_jobs import flights_folder, flights_job, make_job, prepare, refuse, small, write

__all__ = ["flights_folder", "flights_job", "make_job", "prepare", "refuse", "small", "write"]
