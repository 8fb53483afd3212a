"""Cache key of a dataset: the hash of everything that its content follows from.

A dataset with the same key is reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farandole.ingest.sources.files import SourceFiles, fingerprints
from farandole.ingest.sources.transform_modules import transform_digest, transform_modules
from farandole.privacy import read_key, recogniser_version
from farandole.spec import Data, KeyReference, Redact

CODE_PACKAGES = ("ingest", "preprocess", "privacy", "shards", "spec", "storage")
"""The packages of Farandole whose code may affect a dataset: all that `ingest.prepare` imports, directly or not, except
`UNINVOLVED`. A test follows the imports and fails if a module is in neither."""
UNINVOLVED = ("errors", "events", "process")
"""The other modules that `ingest.prepare` imports: error classes, progress events, locks and atomic writes."""
_LIBRARIES = ("numpy", "phonenumberslite", "pillow", "pyarrow", "pyspark", "python-stdnum", "tokenizers")
"""The libraries that affect a dataset: its bytes, or which personal data is detected in it."""
_FIELDS_WITHOUT_EFFECT = {"output", "partitions", "master", "memory"}
"""Fields of `data` that do not affect the dataset."""


@cache
def code_version() -> dict[str, str]:
    """Return the versions of all code that affects a dataset."""
    digest = hashlib.sha256()
    for name, path in code_files():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"farandole": version("farandole"), "preparing_code": digest.hexdigest(), **libraries}


def code_files() -> Iterator[tuple[str, Path]]:
    """Yield the source files of `CODE_PACKAGES`, at any depth, each with its name in the package `farandole`."""
    package = Path(__file__).resolve().parents[1]
    for folder in CODE_PACKAGES:
        for path in sorted((package / folder).rglob("*.py")):
            yield path.relative_to(package).as_posix(), path


def compute_cache_key(data: Data, files: Mapping[str, SourceFiles], folder: str | None = None) -> str:
    """Return the SHA-256 over the source files, the data part of the job, the code, the transform and the keys.

    Args:
        data: The data part of the job.
        files: The files of its sources.
        folder: The folder of the transform's module.

    Raises:
        SpecError: A key is missing, or is not a key.
        DataError: The transform's module is missing.
    """
    parts: dict[str, Any] = {
        "data": data.model_dump(mode="json", exclude=_FIELDS_WITHOUT_EFFECT),
        "files": [entry.to_dict() for entry in fingerprints(files)],
        "code": sorted(code_version().items()),
        "transform": transform_digest(transform_modules(data.transform, folder)) if data.transform else None,
        "keys": [read_key(key, field_path).fingerprint for field_path, key in _keys(data)],
    }
    pipelines = {
        policy.names for policy in data.privacy.columns.values() if isinstance(policy, Redact) and policy.names
    }
    if pipelines:
        parts["recognisers"] = [recogniser_version(name) for name in sorted(pipelines)]
    # The JSON keys are not sorted: features keep their order in tensors, and columns may be read by their position.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _keys(data: Data) -> list[tuple[str, KeyReference]]:
    """Return the keys that affect the bytes of a dataset, with the fields that name them."""
    keys = {"data.privacy.key": data.privacy.key, "data.shards.encryption.key": data.shard_key}
    return [(field_path, key) for field_path, key in keys.items() if key is not None]
