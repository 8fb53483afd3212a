"""The command line: one file for each group of commands, and one for each kind of what they show and read.

Nine groups of commands, the command as a whole, its help and completion, the terminal and its progress, three files
that render results, and the decoding of tokens: hence 19 files.
"""
