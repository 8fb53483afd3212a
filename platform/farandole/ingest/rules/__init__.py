"""Rules that rows must satisfy: expectations, malformed rows, privacy and the user's transform."""
