"""Bundles: a trained model as files that hold no code: weights, preprocessing, schema, and what is known of them."""
