"""The rows of one shard: what comes from elsewhere in batches, in the order in which it is written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from farandole.preprocess.preprocessing import Preprocessing
from farandole.preprocess.text import Packer, TextTransform


class RowStream:
    """Raw batches in, rows of a dataset out. Packed texts reach over batches, so they need to be told of the end.

    Args:
        preprocessing: Fitted.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self.raw_rows = 0
        """How many raw rows went in."""
        transform = preprocessing.transforms[0]
        self._packer = Packer(transform) if isinstance(transform, TextTransform) and transform.packs else None

    def add(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """The rows that are whole now, as `Preprocessing.rows` gives them.

        Raises:
            DataError: A value that no rule covers.
        """
        self.raw_rows += batch.num_rows
        if self._packer is None:
            return self._preprocessing.rows(batch)
        (transform,) = self._preprocessing.transforms
        return {transform.groups[0].name: self._packer.add(batch.column(transform.column))}

    def end(self) -> dict[str, np.ndarray]:
        """The rows that were waiting for more; none, but for packed texts."""
        if self._packer is None:
            return {}
        (transform,) = self._preprocessing.transforms
        return {transform.groups[0].name: self._packer.end()}
