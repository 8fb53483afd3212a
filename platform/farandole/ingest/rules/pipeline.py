"""Pipeline of the raw rows of a dataset: query, transform, expectations and privacy, in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from farandole.errors import DataError, FarandoleError
from farandole.ingest.readers.first_rows import first_rows
from farandole.ingest.rules.expectations import ExpectationResult, check_expectations
from farandole.ingest.rules.privacy_gate import PrivacyGate, PrivacyRecord
from farandole.ingest.rules.spark_failures import explain_failure
from farandole.ingest.rules.user_transform import TransformRecord, UserTransform
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.column_names import NeutralFrame
from farandole.ingest.spark.dataframes import find_unstable_parts, needed_columns, query_frame, with_wanted_types
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.ingest.spark.session import cached
from farandole.privacy import Detector, read_key
from farandole.spec import Job

_FIRST_ROWS = 10_000
"""The rows that are searched for personal data before all others."""


@dataclass(frozen=True)
class RulesRecord:
    """The manifest's record of the rules that were applied to the rows.

    Args:
        privacy: The policies, the findings and the measured k-anonymity.
        expectations: The outcome of each expectation.
        transform: The transform; None: the job has none.
    """

    privacy: PrivacyRecord
    expectations: tuple[ExpectationResult, ...]
    transform: TransformRecord | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the manifest."""
        return {
            "privacy": self.privacy.to_dict(),
            "expectations": tuple(result.to_dict() for result in self.expectations),
            "transform": self.transform.to_dict() if self.transform is not None else None,
        }


class RowPipeline:
    """The rules of a job on rows before they become features, and a record of their application.

    A context manager: while it is open, Spark's workers can run the user's transform.

    Args:
        job: The job.
        files: The files of its sources.

    Raises:
        SpecError: The key of the privacy policies is missing, or is not a key.
        DataError: The transform's module is missing.
    """

    def __init__(self, job: Job, files: Mapping[str, SourceFiles]) -> None:
        self._job = job
        self._files = files
        key = job.data.privacy.key
        self._gate = PrivacyGate(job.data.privacy, read_key(key, "data.privacy.key") if key else None)
        self._transform = UserTransform(job) if job.data.transform else None
        self._expectations: tuple[ExpectationResult, ...] = ()
        self._is_suspicious = False

    def __enter__(self) -> RowPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        if self._transform is not None:
            self._transform.close()

    def search_first_rows(self) -> None:
        """Search the first rows of the sources for personal data, before Spark starts.

        Without a query and a transform, they are the first rows of the dataset. Otherwise a finding only means that
        `check_first_rows` looks at the first rows of the result.

        Raises:
            DataError: There is personal data without a policy.
        """
        data = self._job.data
        if not data.privacy.detect:
            return
        for name, source in data.sources.items():
            rows = first_rows(name, source, self._files[name], _FIRST_ROWS)
            if rows is None:
                continue
            if data.query is None and data.transform is None:
                if not set(data.privacy.columns) <= set(rows.schema.names):
                    return  # `check_columns` reports the policy whose column is missing
                self._gate.check_first_rows(rows, data.used_columns)
            elif self._gate.find_in_first_rows(rows):
                self._is_suspicious = True

    def check_first_rows(self, frame: DataFrame) -> None:
        """Search the first rows of the result of `rows`, if the sources hold personal data that it may contain.

        Raises:
            DataError: There is personal data without a policy.
        """
        inspected = self.inspected_columns(frame)
        if self._is_suspicious and inspected:
            rows = NeutralFrame(frame).frame.limit(_FIRST_ROWS).toArrow().rename_columns(frame.columns).combine_chunks()
            for batch in rows.to_batches():
                self._gate.check_first_rows(batch, inspected)

    def rows(self, session: SparkSession, readers: SourceReaders, warn: Callable[[str], None]) -> DataFrame:
        """Return the columns that the dataset is made of, after the privacy policies.

        Args:
            session: The Spark session.
            readers: The readers of the sources.
            warn: Receives warnings: expectations that are not met and only warn, and rows that will differ next time.

        Raises:
            DataError: The sources, the query, the transform, the expectations and the policies do not fit together.
        """
        rows = query_frame(session, self._job.data, readers)
        self._note_files(readers, warn)
        if self._transform is not None:
            rows = self._transform.apply(rows)
        if self._job.data.query is not None or self._transform is not None:
            field_path = "data.query" if self._transform is None else "data.query and data.transform"
            for reason in find_unstable_parts(rows):
                warn(f"{field_path}: {reason}, so the dataset cannot be made a second time")
        self._check_readable(rows, readers)
        rows = with_wanted_types(rows, self._job.data.wanted_types)
        self._gate.check_columns(rows)
        self._expectations = tuple(check_expectations(rows, self._job.data, warn))
        return self._gate.protect(needed_columns(rows, self._job.data.used_columns))

    def _note_files(self, readers: SourceReaders, warn: Callable[[str], None]) -> None:
        """Warn of what the sources' files made necessary."""
        data = self._job.data
        names_all = data.query is None and data.transform is None
        for column, file in readers.rounded.items():
            if not names_all or column in data.used_columns:
                warn(f"{file}: column {column} holds times in nanoseconds; they are rounded to microseconds")
        for note in readers.notes:
            warn(note)

    def _check_readable(self, rows: DataFrame, readers: SourceReaders) -> None:
        """Check that the job uses no column that was left out because nothing can read it.

        Raises:
            DataError: It does.
        """
        data = self._job.data
        used = {**data.used_columns, **{name: f"data.privacy.columns.{name}" for name in data.privacy.columns}}
        for number, expectation in enumerate(data.expect):
            columns = getattr(expectation, "columns", (getattr(expectation, "column", None),))
            used |= {column: f"data.expect.{number}" for column in columns if column is not None}
        for column, field_path in used.items():
            if column in readers.unreadable and column not in rows.columns:
                raise DataError(f"{field_path}: {readers.unreadable[column]}")

    def inspected_columns(self, frame: DataFrame) -> tuple[str, ...]:
        """Return the columns of the result of `rows` that are inspected for personal data."""
        return self._gate.inspected_columns(frame)

    def inspected_types(self, types: Mapping[str, str]) -> tuple[str, ...]:
        """Return the same columns, given the SQL type of each column that enters the dataset."""
        return self._gate.inspected_types(types)

    @contextmanager
    def k_anonymous(self, frame: DataFrame) -> Iterator[DataFrame]:
        """Provide the rows that satisfy k-anonymity, for the length of the block.

        Args:
            frame: The result of `rows`, perhaps with further columns.

        Raises:
            DataError: Some groups of similar rows are too small.
        """
        if self._job.data.privacy.k_anonymity is None:
            yield frame
            return
        with cached(frame) as rows:  # they are read once to count, and once to pack
            yield self._gate.k_anonymous(rows)

    def check_findings(self, detector: Detector) -> None:
        """Check the findings in the inspected columns.

        Raises:
            DataError: There is personal data without a policy.
        """
        self._gate.check_findings(detector)

    def explain_failure(self, error: Exception, session: SparkSession) -> FarandoleError:
        """Return the error that a failed Spark job means for the user, without values if columns are protected."""
        raised = self._transform.explain_failure(str(error)) if self._transform is not None else None
        if raised is not None:
            return self._gate.hide_values(raised)
        explanation = explain_failure(error, session, self._job, self._files)
        return self._gate.hide_values(explanation.error, quotes_spark=explanation.quotes_spark)

    def hide_values(self, error: FarandoleError) -> FarandoleError:
        """Return an error without values if columns are protected."""
        return self._gate.hide_values(error)

    def visible_cause(self, error: Exception) -> Exception | None:
        """Return the cause that an explained error may show: None if it may hold values of protected columns."""
        return None if self._job.data.privacy.protected else error

    @property
    def record(self) -> RulesRecord:
        """The record of the rules, complete when the rows are packed."""
        transform = self._transform.record if self._transform is not None else None
        return RulesRecord(self._gate.record, self._expectations, transform)
