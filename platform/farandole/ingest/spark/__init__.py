"""Everything that runs in a Spark session."""
