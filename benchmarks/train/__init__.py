"""Training benchmark: milliseconds per step, compared with hand-written scripts."""
