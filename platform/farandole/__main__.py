"""`python -m farandole` is the command `farandole`."""

from farandole.cli.main import main

main()
