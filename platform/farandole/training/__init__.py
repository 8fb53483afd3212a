"""Training on one rank: the world, the loop, gradients, checkpoints, metrics. Runs in worker processes only."""
