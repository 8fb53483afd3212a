"""The single implementation of every transform, on Arrow record batches: for Spark's executors and for serving.

One module for each kind of feature, and those that rows pass before and after: from text to types, fitting, and all
transforms together; hence 16 files.
"""

from farandole.preprocess.fit import LABEL_KEY, Observations, find_losses, learn, merge, statistics
from farandole.preprocess.preprocessing import Preprocessing, RowStream
from farandole.preprocess.raw_rows import RawForm, find_forms
from farandole.preprocess.summary import Summary

__all__ = [
    "LABEL_KEY",
    "Observations",
    "Preprocessing",
    "RawForm",
    "RowStream",
    "Summary",
    "find_forms",
    "find_losses",
    "learn",
    "merge",
    "statistics",
]
