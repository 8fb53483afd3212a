"""Smaller forms of a trained model, each measured on the test split before anybody may use it."""

from farandole.serving.compression.compress import Compression, Way, compress_model, compress_ways
from farandole.serving.compression.measure import FormMeasure

__all__ = ["Compression", "FormMeasure", "Way", "compress_model", "compress_ways"]
