"""From raw files to a registered model: the whole command, beside what a person would write by hand."""
