"""Rules of the job on raw rows: query, user transform, expectations, privacy, malformed records."""
