"""One rank's training: the world, the loop, checkpoints, metrics. Runs in workers only."""
