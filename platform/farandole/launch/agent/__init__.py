"""What runs on another host for the launcher: it looks around, takes the job's folder, and keeps a worker.

The launcher starts it by SSH and speaks to it on standard input: a line of JSON says what to `do`, and what follows
belongs to that. It answers in marked lines on standard output, as workers do, for what a login shell prints may stand
before them. Secrets come this way only: they are on no command line and in no file.
"""
