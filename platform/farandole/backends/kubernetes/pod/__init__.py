"""What runs in the job's pods, as their first process."""
