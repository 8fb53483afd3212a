"""The dataset directory: Arrow shards and one manifest."""

from farandole.shards.compare import compare
from farandole.shards.demands import require_policies, unmet_demands
from farandole.shards.encryption import describe, has_key, open_key
from farandole.shards.garbage import collect_garbage, spare
from farandole.shards.manifest import (
    MANIFEST_NAME,
    BlockInfo,
    EncryptionInfo,
    MalformedRows,
    Manifest,
    QuarantineFile,
    ShardInfo,
    content_digest,
    read_manifest,
    write_manifest,
)
from farandole.shards.quarantine import QuarantineWriter
from farandole.shards.reader import Dataset, SplitReader
from farandole.shards.schema import LABEL, Group, LabelColumn, Schema
from farandole.shards.storage import LocalStorage, Place, Storage, place_of, storage_of
from farandole.shards.verify import Problem, verify
from farandole.shards.writer import ShardWriter

__all__ = [
    "LABEL",
    "MANIFEST_NAME",
    "BlockInfo",
    "Dataset",
    "EncryptionInfo",
    "Group",
    "LabelColumn",
    "LocalStorage",
    "MalformedRows",
    "Manifest",
    "Place",
    "Problem",
    "QuarantineFile",
    "QuarantineWriter",
    "Schema",
    "ShardInfo",
    "ShardWriter",
    "SplitReader",
    "Storage",
    "collect_garbage",
    "compare",
    "content_digest",
    "describe",
    "has_key",
    "open_key",
    "place_of",
    "read_manifest",
    "require_policies",
    "spare",
    "storage_of",
    "unmet_demands",
    "verify",
    "write_manifest",
]
