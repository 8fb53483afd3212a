"""Privacy gate between raw rows and the dataset: policies, k-anonymity and detection, on Spark data frames.

Policies come first, on the rows of the query and the transform, so that all rows that are counted, fitted, cached or
written are protected. Then k-anonymity is applied to the rows that would be written. Last, personal data is detected in
the columns that enter the dataset without a policy, which also finds columns that the query copied under another name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type

from farandole.errors import DataError, FarandoleError, closest_match
from farandole.events import format_count
from farandole.ingest.spark.column_names import BatchFunction, NeutralFrame, named_frame
from farandole.ingest.spark.error_transport import ErrorTransport
from farandole.privacy import Detector, PiiFinding, Protection, Secret, protected_type, redact
from farandole.spec import Allow, Drop, Privacy
from farandole.spec.privacy import KAnonymity

_QUOTED = re.compile(r"['\"].*['\"]")
"""Text that may be values in a line of an error: from the first quote to the last, as values may contain quotes."""
_TYPE = re.compile(
    r"\"((?:BOOLEAN|BYTE|TINYINT|SMALLINT|INT|BIGINT|FLOAT|DOUBLE|STRING|BINARY|DATE|TIMESTAMP(?:_NTZ)?)"
    r"|DECIMAL\([0-9]+,[0-9]+\))\""
)
"""Text in double quotes that Spark writes and that is not a value: the name of a type."""
_CUT_SHORT = re.compile(r"(?<!')['\"][^…'\"]*$", re.MULTILINE)
"""A quote that is not closed in its line, because Spark does not escape line breaks in values."""
_NUMBER = re.compile(r"(?<![\w.])[-+]?\.?[0-9][\w.+-]*")
"""A number, which Spark does not quote: `5123456789L`, `1.5E10`."""
_ALLOW = Allow(policy="allow")
_ROWS = "_farandole_rows"
_MIN_FIRST_SHARE, _MIN_FIRST_ROWS = 0.01, 5
"""Share and number of the first rows that must look personal to be reported without reading the others."""


@dataclass(frozen=True)
class AnonymityRecord:
    """The measured k-anonymity of the rows.

    Args:
        columns: The columns that group rows.
        k: The required size of groups; None: they are only measured.
        smallest_group: The rows of the smallest group that is written.
        groups: The number of groups that are written.
        rows_in_smaller_groups: The rows in groups below `k`.
        suppressed_rows: The rows that were left out.
    """

    columns: tuple[str, ...]
    k: int | None
    smallest_group: int
    groups: int
    rows_in_smaller_groups: int
    suppressed_rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's `privacy.k_anonymity`."""
        return {**asdict(self), "columns": list(self.columns)}


@dataclass(frozen=True)
class PrivacyRecord:
    """The manifest's record of the privacy rules: no values, and of the key only its name and fingerprint.

    Args:
        privacy: The job's `data.privacy`.
        findings: The personal data that was found and allowed.
        anonymity: The measured k-anonymity; None: the job does not ask for it.
        secret: The key of the policies, if they need one.
    """

    privacy: Privacy
    findings: tuple[PiiFinding, ...]
    anonymity: AnonymityRecord | None
    secret: Secret | None

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's `privacy`."""
        entry: dict[str, Any] = {
            "columns": {name: policy.model_dump(mode="json") for name, policy in self.privacy.columns.items()},
            "detect": self.privacy.detect,
            "allowed_findings": [finding.to_dict() for finding in self.findings],
            "k_anonymity": self.anonymity.to_dict() if self.anonymity is not None else None,
        }
        if self.secret is not None:
            entry["key"] = {"name": self.secret.name, "fingerprint": self.secret.fingerprint}
        return entry


@dataclass
class PrivacyGate:
    """The privacy rules of a job, applied to the rows of one preparation.

    Args:
        privacy: The job's `data.privacy`.
        secret: The key of its policies, if they need one.
    """

    privacy: Privacy
    secret: Secret | None
    _findings: list[PiiFinding] = field(default_factory=list)
    _anonymity: AnonymityRecord | None = None

    def check_columns(self, frame: DataFrame) -> None:
        """Check that every policy has its column: a misspelt name would leave the intended column unprotected.

        Raises:
            DataError: A column is missing.
        """
        for column in self.privacy.columns:
            if column not in frame.columns:
                close = closest_match(column, frame.columns)
                hint = f"did you mean {close}?" if close else f"there are {', '.join(frame.columns)}"
                raise DataError(f"data.privacy.columns.{column}: the query does not return such a column; {hint}")

    def protect(self, frame: DataFrame) -> DataFrame:
        """Apply the policies to the rows.

        Raises:
            DataError: A policy does not fit its column's type.
        """
        policies = {name: policy for name, policy in self.privacy.protected.items() if name in frame.columns}
        if not policies:
            return frame
        types: list[tuple[str, str | T.DataType]] = []
        for column in frame.schema:
            kind, policy = column.dataType, policies.get(column.name)
            if isinstance(policy, Drop):
                continue
            if policy is not None:
                raw = to_arrow_type(kind)
                made = protected_type(column.name, policy, raw)
                kind = kind if made == raw else from_arrow_type(made)
            types.append((column.name, kind))
        return named_frame(frame, _apply_policies(Protection(policies, self.secret)), types)

    def inspected_columns(self, frame: DataFrame) -> tuple[str, ...]:
        """Return the columns that may hold personal data: text or whole numbers, without a policy.

        Args:
            frame: The protected columns that enter the dataset, and no others.
        """
        return self.inspected_types({column.name: column.dataType.simpleString() for column in frame.schema})

    def inspected_types(self, types: Mapping[str, str]) -> tuple[str, ...]:
        """Return the columns that may hold personal data, given the SQL types of those that enter the dataset."""
        if not self.privacy.detect:
            return ()
        searched = (name for name, kind in types.items() if kind == "bigint" or kind.startswith("string"))
        return tuple(name for name in searched if isinstance(self.privacy.columns.get(name, _ALLOW), Allow))

    def check_findings(self, detector: Detector) -> None:
        """Compare the findings in the inspected columns with the policies.

        Raises:
            DataError: There is personal data without a policy. The message has columns, kinds and counts, no values.
        """
        self._findings = detector.findings(self.privacy.detect_share)
        self._require_policies(self._findings)

    def check_first_rows(self, rows: pa.RecordBatch, inspected: Collection[str]) -> None:
        """Search the first rows of the dataset, so that most personal data is reported before anything is prepared.

        A few rows say little about a share, so only columns in which many of them look personal are reported;
        `check_findings` judges all rows.

        Args:
            rows: The rows.
            inspected: The columns that enter the dataset without a policy.

        Raises:
            DataError: There is personal data without a policy.
        """
        named = [name for name in rows.schema.names if name in inspected]
        searched = f" (searched: the first {format_count(len(rows), 'row')})"
        self._require_policies(self.find_in_first_rows(rows.select(named)), searched)

    def find_in_first_rows(self, rows: pa.RecordBatch) -> list[PiiFinding]:
        """Return the columns of a few rows that certainly hold personal data; none if detection is off."""
        if not self.privacy.detect:
            return []
        detector = Detector()
        detector.add(rows)
        found = detector.findings(max(self.privacy.detect_share, _MIN_FIRST_SHARE))
        return [finding for finding in found if finding.count >= _MIN_FIRST_ROWS]

    def _require_policies(self, findings: Sequence[PiiFinding], searched: str = "") -> None:
        unprotected = [finding for finding in findings if finding.column not in self.privacy.columns]
        if unprotected:
            raise DataError(
                "\n".join(
                    f"data.privacy: {finding}{searched}; write a policy (`columns: {{{finding.column}: {{policy:"
                    " mask}}`, for example; `redact` for free text), or leave the column out; if it may be in the"
                    " dataset, `policy: allow`"
                    for finding in unprotected
                )
            )

    def k_anonymous(self, frame: DataFrame) -> DataFrame:
        """Return the rows whose group is large enough, or all rows if the job sets no minimum.

        Raises:
            DataError: Groups are too small, and the job does not leave them out.
        """
        rule = self.privacy.k_anonymity
        if rule is None:
            return frame
        rows = NeutralFrame(frame)
        named = [rows.column(column) for column in rule.columns]
        groups = rows.frame.groupBy(*named).agg(F.count("*").alias(_ROWS))
        small = F.col(_ROWS) < F.lit(rule.k or 2)
        measured = groups.agg(
            F.min(_ROWS).alias("smallest"),
            F.count("*").alias("groups"),
            F.count_if(small).alias("small"),
            F.coalesce(F.sum(F.when(small, F.col(_ROWS))), F.lit(0)).alias("rows"),
        ).collect()[0]
        record = AnonymityRecord(
            rule.columns, rule.k, measured["smallest"] or 0, measured["groups"], rows_in_smaller_groups=measured["rows"]
        )
        self._anonymity = record
        if rule.k is None or not measured["small"]:
            return frame
        if not rule.suppress:
            raise _groups_too_small(rule, record, measured["small"])
        self._anonymity = replace(
            record,
            suppressed_rows=record.rows_in_smaller_groups,
            groups=record.groups - measured["small"],
            smallest_group=groups.where(~small).agg(F.min(_ROWS)).collect()[0][0] or 0,
        )
        renamed = groups.where(~small).select(*(column.alias(f"_k_{i}") for i, column in enumerate(named)))
        same = [column.eqNullSafe(F.col(f"_k_{i}")) for i, column in enumerate(named)]
        return rows.restore(rows.frame.join(renamed, same, "left_semi"))

    @property
    def record(self) -> PrivacyRecord:
        """The record of what was applied and found so far."""
        return PrivacyRecord(self.privacy, tuple(self._findings), self._anonymity, self.secret)

    def hide_values(self, error: FarandoleError, *, quotes_spark: bool = False) -> FarandoleError:
        """Return the error without its details and without text that may be a value of a protected column.

        Args:
            error: The error.
            quotes_spark: Whether it quotes a message of Spark, in which numbers may be values too.
        """
        if not self.privacy.protected:
            return error
        text = _QUOTED.sub("'…'", _TYPE.sub(r"\1", str(error)))
        if quotes_spark:
            text = _NUMBER.sub("…", _CUT_SHORT.sub("'…", text))
        text = redact(text)
        hidden = "" if text == str(error) else " (values are not shown: data.privacy protects columns of this job)"
        return type(error)(text + hidden)


def _groups_too_small(rule: KAnonymity, record: AnonymityRecord, small_groups: int) -> DataError:
    return DataError(
        f"data.privacy.k_anonymity: {record.rows_in_smaller_groups:,} rows are in {small_groups:,} of"
        f" {record.groups:,} groups over {', '.join(rule.columns)} that have fewer than {rule.k} rows (the smallest:"
        f" {record.smallest_group});"
        " generalise a column further, or leave the rows out with `suppress: true`"
    )


def _apply_policies(protection: Protection) -> BatchFunction:
    """Make the function for `mapInArrow` that applies the policies to rows."""

    def protect(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for batch in batches:
                yield protection.apply(batch)

    return protect
