"""Training on one rank. Runs in worker processes only.

`worker` is the process, `rank` the work of one rank, `trainer` the loop, and `build` creates the loop's parts. Most
other modules are small parts that the loop uses side by side, hence 19 files; gradients and optimizers (`optim`),
`evaluation` and checkpoints (`checkpoint`) are packages inside it.
"""
