"""Smaller forms of a trained model, each measured on the test split before anybody may use it."""

from farandole.serving.compression.compress import Compression, compress_model
from farandole.serving.compression.measure import FormMeasure

__all__ = ["Compression", "FormMeasure", "compress_model"]
