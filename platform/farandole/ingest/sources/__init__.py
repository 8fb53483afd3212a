"""Source files: found, fetched and identified."""
