"""Explanations of a model: of its features overall, of single predictions, and of its layers."""
