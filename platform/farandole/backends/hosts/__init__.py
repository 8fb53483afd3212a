"""The backend that runs workers on hosts reached by SSH."""
