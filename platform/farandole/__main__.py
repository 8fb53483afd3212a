"""Entry point of `python -m farandole`, the same as the command `farandole`."""

from farandole.cli.main import main

main()
