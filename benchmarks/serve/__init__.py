"""The prediction service under load, beside other servers of the same model."""
