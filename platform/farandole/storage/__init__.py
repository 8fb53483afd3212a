"""Storage of datasets and checkpoints: local directories and object stores."""
