"""Agent: the part of the launcher that runs on other hosts.

The launcher starts it over SSH as `python -m farandole.launch.agent` and sends one request, a line of JSON on standard
input that says what to `do`; the rest of the input belongs to that request. The agent answers with marked lines on
standard output, as workers do, since the output of a login shell may precede them. Secrets are sent only this way: they
appear on no command line and in no file.
"""
