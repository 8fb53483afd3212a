from tests.support.ingest_jobs import make_job, small, write

__all__ = ["make_job", "small", "write"]
