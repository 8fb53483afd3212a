"""Peers, each by the fastest way that its documentation recommends for shuffled reading in one process.

Runs in an interpreter in which they are installed; of Farandole it only needs `process`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader.process import System

_SEED = 7
_SHARD_BYTES = 64 * 2**20


def stub_torchvision(directory: Path) -> None:
    """Make MosaicML Streaming importable without torchvision, which is not built for every version of torch.

    It needs two names of torchvision, for its image datasets, which are not used here. Child processes, such as Spark's
    workers, find them too.

    Args:
        directory: Directory to which a package with the two names is written.
    """
    if find_spec("torchvision") is not None:
        return
    for name, text in _STUBS.items():
        path = directory / "torchvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.path.append(str(directory))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(directory))))


_STUBS = {
    "__init__.py": "",
    "datasets.py": "class VisionDataset: ...\n",
    "transforms/__init__.py": "",
    "transforms/functional.py": "def to_tensor(image): raise NotImplementedError\n",
}


class _DataLoader:
    """A torch DataLoader, or an object with the same interface."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def epoch(self, epoch: int) -> Iterator[int]:
        for batch in self._loader:
            yield len(next(iter(batch.values())))

    def resumed(self, epoch: int) -> None:
        return None


def _arrays(directory: Path) -> dict[str, np.ndarray]:
    """Return the plain arrays by name, memory-mapped."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(directory.glob("*.npy"))}


def _row(arrays: dict[str, np.ndarray], index: int) -> dict[str, Any]:
    return {
        name: values[index].item() if values.ndim == 1 else np.array(values[index]) for name, values in arrays.items()
    }


def _write_streaming(arrays: Path, directory: Path) -> None:
    stub_torchvision(directory.with_name("stubs"))
    from streaming import MDSWriter

    values = _arrays(arrays)
    # With the shape in the encoding, rows have a fixed size and no headers.
    columns = {
        name: "int" if array.ndim == 1 else f"ndarray:{array.dtype}:{','.join(map(str, array.shape[1:]))}"
        for name, array in values.items()
    }
    with MDSWriter(out=str(directory), columns=columns, size_limit=_SHARD_BYTES) as writer:
        for index in range(len(next(iter(values.values())))):
            writer.write(_row(values, index))


def _open_streaming(directory: Path, batch_rows: int) -> _DataLoader:
    stub_torchvision(directory.with_name("stubs"))
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(directory), shuffle=True, shuffle_seed=_SEED, batch_size=batch_rows)
    return _DataLoader(StreamingDataLoader(dataset, batch_size=batch_rows))


def _litdata_row(arrays: str, index: int) -> dict[str, Any]:
    return _row(_cached_arrays(arrays), index)


@functools.cache
def _cached_arrays(directory: str) -> dict[str, np.ndarray]:
    return _arrays(Path(directory))


def _write_litdata(arrays: Path, directory: Path) -> None:
    from litdata import optimize

    rows = len(next(iter(_arrays(arrays).values())))
    optimize(
        fn=functools.partial(_litdata_row, str(arrays)),
        inputs=list(range(rows)),
        output_dir=str(directory),
        chunk_bytes=_SHARD_BYTES,
        num_workers=1,
        verbose=False,
    )


def _open_litdata(directory: Path, batch_rows: int) -> _DataLoader:
    from litdata import StreamingDataLoader, StreamingDataset

    dataset = StreamingDataset(str(directory), shuffle=True, seed=_SEED)
    return _DataLoader(StreamingDataLoader(dataset, batch_size=batch_rows))


def _write_datasets(arrays: Path, directory: Path) -> None:
    import datasets
    import pyarrow as pa

    columns, features = {}, {}
    for name, array in _arrays(arrays).items():
        kind = datasets.Value(str(array.dtype))
        if array.ndim == 1:
            columns[name], features[name] = pa.array(np.array(array)), kind
        else:
            # Flat lists of a fixed length are fastest; Array2D and Array3D go through Python lists.
            size = int(np.prod(array.shape[1:]))
            flat = pa.array(np.array(array).reshape(-1))
            columns[name], features[name] = (
                pa.FixedSizeListArray.from_arrays(flat, size),
                datasets.List(kind, length=size),
            )
    datasets.Dataset(pa.table(columns)).cast(datasets.Features(features)).save_to_disk(str(directory))


def _open_datasets(directory: Path, batch_rows: int) -> _DataLoader:
    import datasets
    import torch
    from torch.utils.data import DataLoader

    torch.manual_seed(_SEED)
    # A map-style dataset in torch's format: the DataLoader fetches whole batches (`__getitems__`).
    dataset = datasets.load_from_disk(str(directory)).with_format("torch")
    return _DataLoader(DataLoader(dataset, batch_size=batch_rows, shuffle=True))


def _write_webdataset(arrays: Path, directory: Path) -> None:
    import webdataset

    directory.mkdir(parents=True, exist_ok=True)
    values = _arrays(arrays)
    with webdataset.ShardWriter(str(directory / "%05d.tar"), maxcount=10_000, verbose=0) as writer:
        for index in range(len(next(iter(values.values())))):
            row = {f"{name}.npy": np.asarray(value) for name, value in _row(values, index).items()}
            writer.write({"__key__": f"{index:09d}", **row})


def _open_webdataset(directory: Path, batch_rows: int) -> _DataLoader:
    import webdataset

    shards = sorted(str(path) for path in directory.glob("*.tar"))
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=_SEED).shuffle(10_000).decode()
    return _DataLoader(webdataset.WebLoader(dataset.batched(batch_rows, collation_fn=_stacked), batch_size=None))


def _stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    names = [name for name in rows[0] if name.endswith(".npy")]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in names}


SYSTEMS = {
    "streaming": System(
        _open_streaming,
        "mosaicml-streaming",
        "MosaicML StreamingDataset(shuffle=True), ndarray columns of a fixed shape, StreamingDataLoader",
        _write_streaming,
    ),
    "litdata": System(
        _open_litdata,
        "litdata",
        "LitData optimize(), StreamingDataset(shuffle=True), StreamingDataLoader",
        _write_litdata,
    ),
    "datasets": System(
        _open_datasets,
        "datasets",
        "Hugging Face datasets from disk, fixed-size lists, with_format('torch'), DataLoader(shuffle=True)",
        _write_datasets,
    ),
    "webdataset": System(
        _open_webdataset,
        "webdataset",
        "WebDataset tar shards, shardshuffle and shuffle(10000), .npy, batched",
        _write_webdataset,
    ),
}
"""By name of the package as it is imported."""
