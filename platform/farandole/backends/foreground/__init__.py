"""Jobs that `farandole run` and `farandole train` run in the foreground: listed, followed, cancelled and retried.

Nothing is submitted to this backend; every other command treats its jobs like those of the backend `local`.
"""
