"""Benchmarks of Farandole and its peers, in one run on one machine: `python -m benchmarks --help`.

Every system is measured in a separate process, several times, in turn with the others; its best run or its median
counts. Peers whose dependencies conflict with Farandole's run in another interpreter: `loader.process` and
`loader.peers` need no other part of Farandole, and read their data as plain arrays from files.
"""
