"""Measures Farandole next to others, in one run on one machine: what `farandole bench` does.

Every system runs in a process of its own, several times, in turn with the others, and its best run counts. So that
peers whose dependencies exclude ours can take part, `measure` and `peers` also run in another interpreter: they need
no other part of Farandole, and get their data as plain arrays in files.
"""
