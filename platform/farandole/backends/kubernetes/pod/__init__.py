"""First processes of the job's pods."""
