"""A job's directory: file names, locks, status, logs and outcome."""
