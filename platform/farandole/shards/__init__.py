"""The dataset directory: Arrow shards and one manifest."""

from farandole.shards.compare import compare
from farandole.shards.demands import require_policies
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
    "MalformedRows",
    "Manifest",
    "Problem",
    "QuarantineFile",
    "QuarantineWriter",
    "Schema",
    "ShardInfo",
    "ShardWriter",
    "SplitReader",
    "collect_garbage",
    "compare",
    "content_digest",
    "describe",
    "has_key",
    "open_key",
    "read_manifest",
    "require_policies",
    "spare",
    "verify",
    "write_manifest",
]
