"""Models in MLflow, and their bundles on this machine: names of models, the connection to the store, downloads."""

from farandole.tracking.model_store.bundles import FetchedBundle, fetch, fetch_bundle
from farandole.tracking.model_store.reference import ModelReference, parse_model

__all__ = ["FetchedBundle", "ModelReference", "fetch", "fetch_bundle", "parse_model"]
