"""The command line: one file for each group of commands, and one for each kind of what they show and read.

Eight groups of commands, the command as a whole, its help and completion, the terminal and its progress, two files that
render results, and the decoding of tokens: hence 17 files.
"""
