"""Small model builders: `build(schema, **options) -> torch.nn.Module`, to be named in a job file or copied."""
