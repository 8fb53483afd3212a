"""What was asked for, as one hash: a dataset made for the same request is used again."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farandole.ingest.sources.files import SourceFiles, fingerprints
from farandole.ingest.sources.transform_modules import transform_digest, transform_modules
from farandole.privacy import read_key
from farandole.spec import Data, KeyReference

_PREPARING = ("ingest", "preprocess", "privacy", "shards")
_WITHOUT_EFFECT = {"output", "partitions", "master", "memory"}
"""Fields of `data` that never show in a dataset."""


def code_version() -> dict[str, str]:
    """The versions of all that decides about the bytes of a dataset."""
    package = Path(__file__).resolve().parents[1]
    code = hashlib.sha256()
    for folder in _PREPARING:
        for path in sorted((package / folder).glob("*.py")):
            code.update(f"{folder}/{path.name}\0".encode() + path.read_bytes())
    return {
        "farandole": version("farandole"),
        "preparing_code": code.hexdigest(),
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "pyarrow": version("pyarrow"),
        "pyspark": version("pyspark"),
        "tokenizers": version("tokenizers"),
    }


def compute_cache_key(
    data: Data, files: dict[str, SourceFiles], code: dict[str, str], folder: str | None = None
) -> str:
    """SHA-256 over the sources' files, the data part of the job, the code, the transform and the keys' fingerprints.

    Args:
        data: The data part of the job.
        files: The files of its sources.
        code: What `code_version` gave.
        folder: Where the transform's module lies.

    Raises:
        SpecError: A key is not there, or is none.
        DataError: The transform's module is not there.
    """
    asked: dict[str, Any] = {
        "data": data.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "files": fingerprints(files),
        "code": sorted(code.items()),
        "transform": transform_digest(transform_modules(data.transform, folder)) if data.transform else None,
        "keys": [read_key(key, place).fingerprint for place, key in _keys(data)],
    }
    # Keys are not sorted: the order of features is that in the tensors, and columns may stand for places in a file.
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _keys(data: Data) -> list[tuple[str, KeyReference]]:
    """The keys that decide about the bytes of a dataset, by the field that names them."""
    keys = {"data.privacy.key": data.privacy.key, "data.shards.encryption.key": data.shard_key}
    return [(place, key) for place, key in keys.items() if key is not None]
