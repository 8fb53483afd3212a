"""The directory of a job: the one owner of its file names, its locks, and what its files contain.

`$FARANDOLE_HOME/jobs/ID` holds the serialized spec, the state and history (`status`), the logs (`logs`), the reports of
the job's own process (`outcome`), requests to it (`scaling`) and the environment of its start (`launch_context`). All
other packages go through the functions here.
"""
