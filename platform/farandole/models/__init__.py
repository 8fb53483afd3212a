"""Small model builders `build(schema, **options) -> torch.nn.Module`, to name in a job file or to copy."""
