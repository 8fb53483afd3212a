"""Bundles: a trained model as files that hold no code: weights, preprocessing, schema, and what is known of them.

One file for each form of the network and each document, for writing, opening, signing and exporting, and for what a
training makes of a bundle (`compatibility`, `staged`, `pruning`), hence 17 files.
"""

from farandole.bundle.manifest import MANIFEST, digest_of
from farandole.bundle.opened import Bundle, open_bundle
from farandole.bundle.predictor import Predictor
from farandole.bundle.write import BundleContents, add_form, write_bundle

__all__ = [
    "MANIFEST",
    "Bundle",
    "BundleContents",
    "Predictor",
    "add_form",
    "digest_of",
    "open_bundle",
    "write_bundle",
]
