"""The keys of a job's second ConfigMap, through which the launcher and those who ask about the job speak."""

STATUS, RESULT, CANCEL = "status", "result", "cancel"
"""Where the job stands; what came of it; the number of the submission that shall end."""
