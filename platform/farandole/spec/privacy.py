"""The `data.privacy` part of a job file: how personal data is protected before anything is counted or written."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from farandole.spec.base import PathText, SecretError, Spec

_KEY_ITSELF = re.compile(r"\s*((0x)?[0-9A-Fa-f]{32,}|[A-Za-z0-9+/]{43}=)\s*")
"""A key in hexadecimal (or the number that YAML makes of it), or 32 bytes in base64."""


class KeyReference(Spec):
    """Reference to a key of 32 bytes. The key itself never appears in a job, a manifest, a log or an error."""

    environment: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds the key: 64 hexadecimal digits (`openssl rand -hex 32` makes one), or
    base64."""
    file: PathText | None = None
    """The file that holds the key, in the same form; only its owner may have access (mode 0600 or 0400)."""
    id: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")] | None = None
    """The key's name in manifests and errors. Default: the name of the variable or of the file."""

    @model_validator(mode="before")
    @classmethod
    def _reject_text(cls, raw: Any) -> Any:
        if isinstance(raw, str | int):
            raise SecretError("is not a reference to a key; write `{environment: NAME}` or `{file: PATH}`")
        return raw

    @field_validator("environment", "file", mode="before")
    @classmethod
    def _reject_key(cls, value: Any, info: ValidationInfo) -> Any:
        # Before the other checks of the field: their errors show the value.
        if isinstance(value, str | int) and _KEY_ITSELF.fullmatch(str(value)):
            holder = "name of the environment variable" if info.field_name == "environment" else "path of the file"
            raise SecretError(f"this looks like a key; write the {holder} that holds it")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.environment is None) == (self.file is None):
            raise ValueError("a key is in an environment variable or in a file; set either `environment` or `file`")
        return self

    @property
    def name(self) -> str:
        """The name of the key, never its value."""
        return self.id or self.environment or str(self.file).rsplit("/", 1)[-1]

    @property
    def description(self) -> str:
        """The variable or file of the key, in words."""
        return f"the environment variable {self.environment}" if self.environment else f"the file {self.file}"


class Drop(Spec):
    """The column is removed."""

    policy: Literal["drop"]
    """The column is removed; no feature can use it."""


class Mask(Spec):
    """Every character except the last ones becomes `*`."""

    policy: Literal["mask"]
    """The value becomes text in which only the last characters are readable."""
    keep_last: Annotated[int, Field(ge=0, le=16)] = 0
    """How many characters at the end stay readable. Values that are not longer than that are masked completely."""


class Pseudonymise(Spec):
    """The value becomes a keyed hash: equal values get equal pseudonyms, which require the key to compute."""

    policy: Literal["pseudonymise"]
    """HMAC-SHA256 of the value as text, with a key derived from `data.privacy.key`; the same in every column."""
    length: Annotated[int, Field(ge=16, le=64)] = 32
    """The number of hexadecimal digits to keep. 32 (128 bits) do not collide in practice."""


class Generalise(Spec):
    """The value becomes the start of the range that contains it."""

    policy: Literal["generalise"]
    """Numbers by `width`, dates and timestamps by `to`; the column keeps its type."""
    width: Annotated[float, Field(gt=0)] | None = None
    """Numbers: the width of a range; with 10, the ages 30 to 39 become 30."""
    to: Literal["year", "quarter", "month", "week", "day", "hour"] | None = None
    """Dates and timestamps: the unit to whose first day or first instant (UTC) they are rounded down."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.width is None) == (self.to is None):
            raise ValueError("set either `width` (numbers) or `to` (dates and timestamps)")
        return self


class Encrypt(Spec):
    """The value becomes text that can only be decrypted with the key."""

    policy: Literal["encrypt"]
    """AES-256-GCM of the value as text, in base64. Equal values of a column give equal ciphertexts: shards stay
    identical from one preparation to the next, and the frequency of a value stays visible."""


RedactedKind = Literal["email", "phone", "card", "iban", "ip", "national_id"]
"""Personal data that `redact` finds by its form."""


class Redact(Spec):
    """Personal data inside a text becomes a token such as `[e-mail]`; the rest of the text stays readable."""

    policy: Literal["redact"]
    """For free text: comments, messages, descriptions."""
    kinds: Annotated[tuple[RedactedKind, ...], Field(min_length=1)] = get_args(RedactedKind)
    """The kinds of personal data to replace. Numbers of the right form are replaced even if their check digits are
    wrong."""
    phone_regions: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...] = ()
    """Countries, such as `US`, whose phone numbers are also recognised without the country's code and without the usual
    grouping."""
    names: str | None = None
    """Also replace names of people: the spaCy pipeline that recognises them, an installed package or a folder, such as
    `en_core_web_sm`. Needs `pip install 'farandole[names]'`. Default: names stay."""


class Allow(Spec):
    """The column stays as it is, although it may look like personal data."""

    policy: Literal["allow"]
    """Detection does not report this column."""


Policy = Annotated[Drop | Mask | Redact | Pseudonymise | Generalise | Encrypt | Allow, Field(discriminator="policy")]
"""The protection of one column."""


class KAnonymity(Spec):
    """The required number of rows that share their values in columns that together could identify a person."""

    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """The columns, as they are after the policies; they must be part of the dataset."""
    k: Annotated[int, Field(ge=2)] | None = None
    """The smallest allowed group. Default: groups are only measured."""
    suppress: bool = False
    """Drop the rows of smaller groups, and count them, instead of stopping with an error."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.suppress and self.k is None:
            raise ValueError("suppress has no effect without `k`; set k, for example 5")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"a column is named twice in {list(self.columns)}; name each once")
        return self


class Privacy(Spec):
    """Policies by column of the query's result (after the transform), and requirements for the whole dataset."""

    columns: dict[str, Policy] = Field(default_factory=dict)
    """Column to policy. Applied before anything is fitted, counted or written."""
    key: KeyReference | None = None
    """The key of `pseudonymise` and `encrypt`."""
    detect: bool = True
    """Search the columns of the dataset for likely personal data; each column that is found needs a policy."""
    detect_share: Annotated[float, Field(ge=0, le=1)] = 0.001
    """The fraction of a column's values that must look like personal data before the column counts as found."""
    k_anonymity: KAnonymity | None = None
    """How many rows must have the same values in chosen columns."""

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
        """The columns whose values must stay secret, and their policies."""
        return {name: policy for name, policy in self.columns.items() if not isinstance(policy, Allow)}

    @property
    def text_columns(self) -> dict[str, str]:
        """The columns that a policy turns into text, and the name of that policy."""
        return {
            name: policy.policy
            for name, policy in self.columns.items()
            if isinstance(policy, Mask | Redact | Pseudonymise | Encrypt)
        }
