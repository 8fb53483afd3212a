"""The prediction service and what belongs to it: registry, access control, the query of the job, batch scoring."""
