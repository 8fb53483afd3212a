"""Datasets: directories of Arrow shards and one manifest."""

from farandole.shards.compare import compare
from farandole.shards.encryption import describe_encryption, has_key, load_key
from farandole.shards.gc import collect_garbage, mark_as_recent
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
from farandole.shards.requirements import require_policies, unmet_requirements
from farandole.shards.schema import LABEL, Group, LabelColumn, LabelScale, Schema
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
    "LabelScale",
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
    "describe_encryption",
    "has_key",
    "load_key",
    "mark_as_recent",
    "read_manifest",
    "require_policies",
    "unmet_requirements",
    "verify",
    "write_manifest",
]
