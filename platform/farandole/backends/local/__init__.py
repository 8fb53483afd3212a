"""Jobs on this machine: a detached process each, in the order of a small queue. No daemon is needed.

`records.py`, one floor up, is the database. Here, `queue.py` decides who is next, `runner.py` is the process that
takes jobs from the queue, `work.py` the process that is one job, `holding.py` the locks by which the living are
known, `logs.py` reads logs, and `backend.py` puts them together. Names are imported from these modules: a runner
needs little of it.
"""
