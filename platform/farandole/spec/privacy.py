"""The `data.privacy` part of a job file: what becomes of personal data before anything is counted or written."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.base import PathText, SecretError, Spec

_KEY_ITSELF = re.compile(r"^(0x)?[0-9A-Fa-f]{32,}$")


class KeyReference(Spec):
    """Where a key of 32 bytes lies. The key itself is never part of a job, a manifest, a log or an error."""

    environment: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds it: 64 hexadecimal digits (`openssl rand -hex 32` makes one), or base64."""
    file: PathText | None = None
    """The file that holds it, in the same form; only its owner may read it (mode 0600 or 0400)."""
    id: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")] | None = None
    """What the key is called in manifests and errors. Default: the name of the variable or of the file."""

    @field_validator("environment")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is not None and _KEY_ITSELF.match(value):
            raise SecretError("this looks like a key; write the name of the environment variable that holds it")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.environment is None) == (self.file is None):
            raise ValueError("a key lies in an environment variable or in a file; set either `environment` or `file`")
        return self

    @property
    def name(self) -> str:
        """What the key is called."""
        return self.id or self.environment or str(self.file).rsplit("/", 1)[-1]

    @property
    def place(self) -> str:
        """Where it lies, for readers."""
        return f"the environment variable {self.environment}" if self.environment else f"the file {self.file}"


class Drop(Spec):
    """The column does not go on."""

    policy: Literal["drop"]
    """The column is removed; no feature can use it."""


class Mask(Spec):
    """Every character but the last ones becomes `*`."""

    policy: Literal["mask"]
    """The value becomes text in which only the last characters can be read."""
    keep_last: Annotated[int, Field(ge=0, le=16)] = 0
    """How many characters at the end stay. Values that are not longer than that are masked whole."""


class Pseudonymise(Spec):
    """The value becomes a keyed hash: the same value has the same pseudonym, which nobody without the key can make."""

    policy: Literal["pseudonymise"]
    """HMAC-SHA256 of the value as text, under a key derived from `data.privacy.key`; the same in every column."""
    length: Annotated[int, Field(ge=16, le=64)] = 32
    """Hexadecimal digits that are kept. 32 (128 bits) do not collide in practice."""


class Generalise(Spec):
    """The value becomes the start of the range that it lies in."""

    policy: Literal["generalise"]
    """Numbers by `width`, dates and timestamps by `to`; the column keeps its type."""
    width: Annotated[float, Field(gt=0)] | None = None
    """Numbers: the width of a range; with 10, the ages 30 to 39 become 30."""
    to: Literal["year", "quarter", "month", "week", "day", "hour"] | None = None
    """Dates and timestamps: the first day or the first instant (UTC) of this."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.width is None) == (self.to is None):
            raise ValueError("set either `width` (numbers) or `to` (dates and timestamps)")
        return self


class Encrypt(Spec):
    """The value becomes text that only the key can turn back."""

    policy: Literal["encrypt"]
    """AES-256-GCM of the value as text, in base64. Equal values of a column give equal texts: shards stay the same
    from one preparation to the next, and how often a value occurs can be seen."""


class Allow(Spec):
    """The column stays as it is, although it may look like personal data."""

    policy: Literal["allow"]
    """Detection tells nothing about this column."""


Policy = Annotated[Drop | Mask | Pseudonymise | Generalise | Encrypt | Allow, Field(discriminator="policy")]
"""What becomes of one column."""


class KAnonymity(Spec):
    """How many rows share their values in columns that together might point at a person."""

    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """The columns, as they are after the policies; they must enter the dataset."""
    k: Annotated[int, Field(ge=2)] | None = None
    """The smallest group that is allowed. Left out: only measured."""
    suppress: bool = False
    """Leave out the rows of smaller groups, and count them, instead of refusing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.suppress and self.k is None:
            raise ValueError("suppress has no effect without `k`; set k, for example 5")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"a column is named twice in {list(self.columns)}; name each once")
        return self


class Privacy(Spec):
    """Policies by column of the query's result (after the transform), and what is demanded of the whole."""

    columns: dict[str, Policy] = Field(default_factory=dict)
    """Column to policy. Applied before anything is fitted, counted or written."""
    key: KeyReference | None = None
    """The key of `pseudonymise` and `encrypt`."""
    detect: bool = True
    """Look for likely personal data in the columns that enter the dataset; what is found needs a policy."""
    detect_share: Annotated[float, Field(ge=0, le=1)] = 0.001
    """The share of a column's values that must look like personal data before it counts as found."""
    k_anonymity: KAnonymity | None = None
    """How many rows must be alike in chosen columns."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        keyed = [name for name, policy in self.columns.items() if isinstance(policy, Pseudonymise | Encrypt)]
        if keyed and self.key is None:
            raise ValueError(
                f"columns.{keyed[0]}: {self.columns[keyed[0]].policy} needs a key; write `key: {{environment: NAME}}`"
            )
        if self.key is not None and not keyed:
            raise ValueError("key has no effect: no column is pseudonymised or encrypted; remove it")
        return self

    @property
    def protected(self) -> dict[str, Policy]:
        """The columns whose values nobody may see, and their policies."""
        return {name: policy for name, policy in self.columns.items() if not isinstance(policy, Allow)}

    @property
    def text_columns(self) -> dict[str, str]:
        """The columns that become text, and the name of the policy that does it."""
        return {
            name: policy.policy
            for name, policy in self.columns.items()
            if isinstance(policy, Mask | Pseudonymise | Encrypt)
        }
