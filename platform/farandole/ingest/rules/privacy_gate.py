"""The gate between raw rows and the dataset: policies, detection, k-anonymity, on Spark frames.

The order: policies first, on the rows of the query and the transform, so that whatever is counted, fitted, cached or
written comes from protected rows. Then k-anonymity, of what would be written. Then detection, over the columns that
enter the dataset and have no policy: it also finds what the query copied under another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type

from farandole.errors import DataError, FarandoleError, closest_match
from farandole.ingest.spark.sql_quoting import quote_identifier
from farandole.ingest.spark.tasks import BatchFunction, ErrorTransport
from farandole.privacy import Detector, PiiFinding, Protection, Secret, protected_type, redact
from farandole.spec import Allow, Drop, Privacy
from farandole.spec.privacy import KAnonymity

_QUOTED = re.compile(r"['\"].*['\"]")
"""What may be values in a line of an error: all from its first quote to its last one, for values may hold quotes."""
_TYPE = re.compile(
    r"\"((?:BOOLEAN|BYTE|TINYINT|SMALLINT|INT|BIGINT|FLOAT|DOUBLE|STRING|BINARY|DATE|TIMESTAMP(?:_NTZ)?)"
    r"|DECIMAL\([0-9]+,[0-9]+\))\""
)
"""What Spark writes in double quotes that is no value: the name of a type."""
_CUT_SHORT = re.compile(r"(?<!')['\"][^…'\"]*$", re.MULTILINE)
"""A quote that is not closed in its line: Spark does not escape line breaks in values."""
_NUMBER = re.compile(r"(?<![\w.])[-+]?\.?[0-9][\w.+-]*")
"""Numbers, which Spark does not quote: `5123456789L`, `1.5E10`."""
_OF_SPARK = ("data.query: ", "data: Spark failed: ")
"""How errors begin that repeat a message of Spark."""


@dataclass
class PrivacyGate:
    """What the privacy part of a job does to the rows of one preparation, and what it measured.

    Args:
        privacy: The job's `data.privacy`.
        secret: The key of its policies, where they need one.
    """

    privacy: Privacy
    secret: Secret | None
    _findings: list[PiiFinding] = field(default_factory=list)
    _anonymity: dict[str, Any] | None = None

    def check_columns(self, frame: DataFrame) -> None:
        """Whether every policy has its column: with a misspelt one, the column that was meant would stay open.

        Raises:
            DataError: It has not.
        """
        for column in self.privacy.columns:
            if column not in frame.columns:
                close = closest_match(column, frame.columns)
                hint = f"did you mean {close}?" if close else f"there are {', '.join(frame.columns)}"
                raise DataError(f"data.privacy.columns.{column}: the query gives no such column; {hint}")

    def protected(self, frame: DataFrame) -> DataFrame:
        """The rows as the policies leave them.

        Raises:
            DataError: A policy does not fit its column's type.
        """
        policies = {name: policy for name, policy in self.privacy.protected.items() if name in frame.columns}
        dropped = [name for name, policy in policies.items() if isinstance(policy, Drop)]
        frame = frame.drop(*dropped)
        changing = {name: policy for name, policy in policies.items() if name not in dropped}
        if not changing:
            return frame
        schema = T.StructType()
        for column in frame.schema:
            kind = column.dataType
            if column.name in changing:
                raw = to_arrow_type(kind)
                made = protected_type(column.name, changing[column.name], raw)
                kind = kind if made == raw else from_arrow_type(made)
            schema = schema.add(column.name, kind)
        return frame.mapInArrow(_protector(Protection(changing, self.secret)), schema)

    def looked_at(self, frame: DataFrame) -> tuple[str, ...]:
        """The columns that may hold personal data: of text or whole numbers, and without a policy.

        Args:
            frame: The protected columns that enter the dataset, and no others.
        """
        if not self.privacy.detect:
            return ()
        return tuple(
            column.name
            for column in frame.schema
            if isinstance(column.dataType, T.StringType | T.LongType)
            and isinstance(self.privacy.columns.get(column.name, _ALLOW), Allow)
        )

    def judge(self, seen: Detector) -> None:
        """Compare what was found in these columns with the policies.

        Raises:
            DataError: There is personal data without a policy. The text has columns, kinds and counts, no values.
        """
        self._findings = seen.findings(self.privacy.detect_share)
        open_ones = [finding for finding in self._findings if finding.column not in self.privacy.columns]
        if open_ones:
            raise DataError(
                "\n".join(
                    f"data.privacy: {finding}; write a policy (`columns: {{{finding.column}: {{policy: mask}}}}`, for"
                    " example), or leave the column out; if it may be in the dataset, `policy: allow`"
                    for finding in open_ones
                )
            )

    def anonymous(self, frame: DataFrame) -> DataFrame:
        """The rows whose group is large enough; all of them where nothing is demanded.

        Raises:
            DataError: Groups are too small, and they are not to be left out.
        """
        rule = self.privacy.k_anonymity
        if rule is None:
            return frame
        named = [F.col(quote_identifier(column)) for column in rule.columns]
        groups = frame.groupBy(*named).agg(F.count("*").alias(_ROWS))
        small = F.col(_ROWS) < F.lit(rule.k or 2)
        measured = groups.agg(
            F.min(_ROWS).alias("smallest"),
            F.count("*").alias("groups"),
            F.count_if(small).alias("small"),
            F.coalesce(F.sum(F.when(small, F.col(_ROWS))), F.lit(0)).alias("rows"),
        ).collect()[0]
        self._anonymity = {
            "columns": list(rule.columns),
            "k": rule.k,
            "smallest_group": measured["smallest"] or 0,
            "groups": measured["groups"],
            "rows_in_smaller_groups": measured["rows"],
            "suppressed_rows": 0,
        }
        if rule.k is None or not measured["small"]:
            return frame
        if not rule.suppress:
            raise _too_small(rule, measured)
        self._anonymity["suppressed_rows"] = measured["rows"]
        self._anonymity["groups"] -= measured["small"]
        self._anonymity["smallest_group"] = groups.where(~small).agg(F.min(_ROWS)).collect()[0][0] or 0
        renamed = groups.where(~small).select(*(column.alias(f"_k_{i}") for i, column in enumerate(named)))
        same = [column.eqNullSafe(F.col(f"_k_{i}")) for i, column in enumerate(named)]
        return frame.join(renamed, same, "left_semi")

    def to_dict(self) -> dict[str, Any]:
        """What the manifest keeps: no values, and of the key only its name and fingerprint."""
        recorded: dict[str, Any] = {
            "columns": {name: policy.model_dump(mode="json") for name, policy in self.privacy.columns.items()},
            "detect": self.privacy.detect,
            "allowed_findings": [finding.to_dict() for finding in self._findings],
            "k_anonymity": self._anonymity,
        }
        if self.secret is not None:
            recorded["key"] = {"name": self.secret.name, "fingerprint": self.secret.fingerprint}
        return recorded

    def without_values(self, error: FarandoleError) -> FarandoleError:
        """The error without anything that may be a value of a protected column: quoted texts, numbers in Spark's
        messages, and Spark's evidence."""
        if not self.privacy.protected:
            return error
        text = _QUOTED.sub("'…'", _TYPE.sub(r"\1", str(error)))
        if text.startswith(_OF_SPARK):
            text = _NUMBER.sub("…", _CUT_SHORT.sub("'…", text))
        text = redact(text)
        hidden = "" if text == str(error) else " (values are not shown: data.privacy protects columns of this job)"
        return type(error)(text + hidden)


_ALLOW = Allow(policy="allow")
_ROWS = "_farandole_rows"


def _too_small(rule: KAnonymity, measured: Any) -> DataError:
    return DataError(
        f"data.privacy.k_anonymity: {measured['rows']:,} rows lie in {measured['small']:,} of {measured['groups']:,}"
        f" groups over {', '.join(rule.columns)} that have fewer than {rule.k} rows (the smallest:"
        f" {measured['smallest']});"
        " generalise a column further, or leave the rows out with `suppress: true`"
    )


def _protector(protection: Protection) -> BatchFunction:
    """A function for `mapInArrow`: rows as the policies leave them."""

    def protect(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for batch in batches:
                yield protection.apply(batch)

    return protect
