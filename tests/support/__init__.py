"""Data, services and fixtures that several tests share."""
