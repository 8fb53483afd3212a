"""Other hosts by SSH: preflight checks, staging of the job, workers, and collection of their records."""
