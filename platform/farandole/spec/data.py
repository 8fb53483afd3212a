"""The `data` part of a job file: from raw files to a dataset directory."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from farandole.spec.base import PathText, Spec, non_default_fields
from farandole.spec.expectations import Expectation
from farandole.spec.features import IDENTIFIERS_ONLY, Feature, Identifier, Label, feature_groups
from farandole.spec.privacy import Drop, KeyReference, Privacy
from farandole.spec.sources import Source

SPLITS = ("train", "validation", "test")
"""The names of the splits, in the order in which they are written."""


class Split(Spec):
    """Which rows train, validate and test. A row's split follows from a keyed hash of its content."""

    train: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The share of rows to train on."""
    validation: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of rows to validate on, after each epoch."""
    test: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of rows to test on, once, at the end."""
    by: tuple[str, ...] = ()
    """Columns whose values stay together: rows that agree in them share a split. Default: the whole row."""
    column: str | None = None
    """A column of the data that says `train`, `validation` or `test`; replaces the shares and `by`."""
    seed: int = 0
    """The key of the hash: another seed, another split."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.validation + self.test
        if self.column is None and abs(total - 1) > 1e-9:
            raise ValueError(f"the shares add up to {total:g}; they must add up to 1")
        if self.column is None and self.train == 0:
            raise ValueError("train is 0; a model needs rows to train on")
        without_effect = non_default_fields(self, "train", "validation", "test", "by", "seed")
        if self.column is not None and without_effect:
            names = ", ".join(without_effect)
            raise ValueError(f"{names} have no effect where split.column decides; remove them")
        return self


class Encryption(Spec):
    """Shards encrypted at rest, by AES-256-GCM. The manifest, with vocabularies and statistics, is not."""

    key: KeyReference
    """The key. Who reads the dataset needs it in the same place, or names another place in the job."""


class Shards(Spec):
    """The size of what is written, and whether it is encrypted."""

    size_mib: Annotated[float, Field(gt=0, le=4096)] = 128
    """The size of a shard, in MiB (64 to 256 suit most disks and object stores). A task of Spark holds one in
    memory, up to twice."""
    block_mib: Annotated[float, Field(gt=0, le=256)] = 8
    """The size of a record batch, the block that is shuffled in the processor's cache, in MiB."""
    encryption: Encryption | None = None
    """Encrypt each block of each shard. Default: shards are not encrypted."""


class Data(Spec):
    """From sources to shards."""

    sources: Annotated[dict[Identifier, Source], Field(min_length=1, json_schema_extra=IDENTIFIERS_ONLY)]
    """Named inputs; the query refers to them by these names."""
    query: str | None = None
    """Spark SQL over the sources. Default: all columns of the only source."""
    transform: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """`module:function`, a module beside the job file: Python of your own that gets the query's Spark DataFrame (and
    `transform_options`) and returns another one."""
    transform_options: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the transform."""
    expect: tuple[Expectation, ...] = ()
    """What must be true of the rows that the query and the transform give."""
    privacy: Privacy = Privacy()
    """What becomes of personal data: by column, before anything is fitted, counted or written."""
    features: Annotated[dict[Identifier, Feature], Field(min_length=1, json_schema_extra=IDENTIFIERS_ONLY)]
    """Name to feature, in the order in which they appear in their tensors."""
    label: Label | None = None
    """What the model learns to predict. Without one, the dataset serves only scripts of your own."""
    split: Split = Split()
    """Which rows train, validate and test."""
    shards: Shards = Shards()
    """The size of shards and blocks, and their encryption."""
    output: PathText = "${FARANDOLE_HOME}/datasets/{name}"
    """The dataset directory, a path or a URI such as `s3://bucket/folder/{name}`; `{name}` is the job's name."""
    partitions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Spark's partitions while it prepares; never visible in the result. Default: by the size of the input."""
    master: str | None = None
    """Spark's master URL. Default: `local[*]`, all cores of this machine."""
    memory: Annotated[str, Field(pattern=r"^\d+[kmgt]$")] = "2g"
    """The memory of Spark's driver, for example `4g`; in local mode all of Spark runs in it."""

    @field_validator("output")
    @classmethod
    def _writable(cls, value: str) -> str:
        if value.startswith("package://"):
            raise ValueError("datasets are not written into packages; give a path, or a URI such as s3://BUCKET/FOLDER")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.query is None and len(self.sources) > 1:
            names = ", ".join(self.sources)
            raise ValueError(f"{len(self.sources)} sources ({names}) need a `query` that joins them")
        feature_groups(self.features)
        if self.transform is None and self.transform_options:
            raise ValueError("transform_options has no effect without `transform`; remove it")
        self._check_privacy()
        packed = [name for name, feature in self.features.items() if feature.kind == "text" and feature.mode == "pack"]
        if packed and self.label is not None:
            raise ValueError(
                f"features.{packed[0]}: `mode: pack` joins rows, so a row has no label; remove the label, or use"
                " `mode: pad`"
            )
        return self

    @property
    def shard_key(self) -> KeyReference | None:
        """Where the key of the shards lies; None: they are not encrypted."""
        return self.shards.encryption.key if self.shards.encryption else None

    @property
    def entering(self) -> dict[str, str]:
        """Each raw column that the dataset is made of, and the field that asks for it."""
        wanted = {feature.column or name: f"data.features.{name}" for name, feature in self.features.items()}
        if self.label is not None:
            wanted.setdefault(self.label.column, "data.label.column")
        for column in self.split.by:
            wanted.setdefault(column, "data.split.by")
        if self.split.column:
            wanted.setdefault(self.split.column, "data.split.column")
        return wanted

    def _check_privacy(self) -> None:
        """Whether features can be made of what the policies leave."""
        entering, texts = self.entering, self.privacy.text_columns
        hidden = bool(self.privacy.protected) or self.shards.encryption is not None
        for name, source in self.sources.items():
            if hidden and getattr(source, "malformed", None) == "quarantine":
                raise ValueError(
                    f"sources.{name}.malformed: quarantine keeps records as they are, past `privacy` and"
                    " `shards.encryption`; use drop"
                )
        for column, policy in self.privacy.columns.items():
            if isinstance(policy, Drop) and column in entering:
                field = entering[column].removeprefix("data.")
                raise ValueError(f"privacy.columns.{column}: is dropped, yet {field} needs it; choose another policy")
        for name, feature in self.features.items():
            column = feature.column or name
            if column in texts and feature.kind not in ("categorical", "text"):
                raise ValueError(
                    f"features.{name}: is {feature.kind}, yet privacy.columns.{column} ({texts[column]}) makes text of"
                    " its values; use `kind: categorical`, or generalise the column"
                )
        if self.privacy.k_anonymity is not None:
            for column in self.privacy.k_anonymity.columns:
                if column not in entering:
                    raise ValueError(
                        f"privacy.k_anonymity.columns: {column} does not enter the dataset, so it points at nobody in"
                        " it; remove it"
                    )
