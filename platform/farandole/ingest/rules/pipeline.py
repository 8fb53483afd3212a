"""The raw rows of a dataset: query, transform, expectations, privacy, in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from farandole.errors import FarandoleError
from farandole.ingest.rules import expectations
from farandole.ingest.rules.privacy_gate import PrivacyGate
from farandole.ingest.rules.spark_failures import explain_failure
from farandole.ingest.rules.user_transform import UserTransform
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.dataframes import find_unstable_parts, needed_columns, query_frame
from farandole.ingest.spark.session import cached
from farandole.ingest.spark.sql_quoting import quote_identifier
from farandole.privacy import Detector, read_key
from farandole.spec import Job


class RowPipeline:
    """All that happens to rows before they become features, and what the manifest keeps of it. A context manager: as
    long as it is open, Spark's workers can run the user's transform.

    Args:
        job: The job.
        files: The files of its sources.

    Raises:
        SpecError: The key of the privacy policies is not there, or is none.
        DataError: The transform's module is not there.
    """

    def __init__(self, job: Job, files: dict[str, SourceFiles]) -> None:
        self._job = job
        self._files = files
        key = job.data.privacy.key
        self._gate = PrivacyGate(job.data.privacy, read_key(key, "data.privacy.key") if key else None)
        self._hook = UserTransform(job) if job.data.transform else None
        self._expectations: list[dict[str, Any]] = []

    def __enter__(self) -> RowPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.close()

    def frame(self, session: SparkSession, warn: Callable[[str], None]) -> DataFrame:
        """The columns that the dataset is made of, as the privacy policies leave them.

        Args:
            session: Spark.
            warn: Is told of expectations that are not met and only warn, and of rows that will be others next time.

        Raises:
            DataError: The sources, the query, the transform, the expectations and the policies do not fit together.
        """
        rows = query_frame(session, self._job.data, self._files)
        if self._hook is not None:
            rows = self._hook.apply(rows)
        if self._job.data.query is not None or self._hook is not None:
            place = "data.query" if self._hook is None else "data.query and data.transform"
            for reason in find_unstable_parts(rows):
                warn(f"{place}: {reason}, so the dataset cannot be made a second time")
        self._gate.check_columns(rows)
        self._expectations = expectations.check_expectations(rows, self._job.data, warn)
        return self._gate.protected(needed_columns(rows, self._job.data.used_columns))

    def looked_at(self, frame: DataFrame) -> tuple[str, ...]:
        """The columns of what `frame` gave that are looked at for personal data."""
        return self._gate.looked_at(
            frame.select(*(quote_identifier(column) for column in sorted(self._job.data.used_columns)))
        )

    @contextmanager
    def kept(self, frame: DataFrame) -> Iterator[DataFrame]:
        """The rows that may be written, as long as the block lasts.

        Args:
            frame: What `frame` gave, perhaps with further columns.

        Raises:
            DataError: There are rows that too few others are like.
        """
        if self._job.data.privacy.k_anonymity is None:
            yield frame
            return
        with cached(frame) as rows:  # they are read once to count, and once to keep
            yield self._gate.anonymous(rows)

    def judge(self, seen: Detector) -> None:
        """Look at what was found in the columns of `looked_at`.

        Raises:
            DataError: There is personal data without a policy.
        """
        self._gate.judge(seen)

    def explain(self, error: Exception, session: SparkSession) -> FarandoleError:
        """The error of ours that a failure in Spark stands for; without values, where columns are protected."""
        ours = self._hook.explain(str(error)) if self._hook is not None else None
        return self._gate.without_values(ours or explain_failure(error, session, self._job, self._files))

    def without_values(self, error: FarandoleError) -> FarandoleError:
        """An error of ours, without values where columns are protected."""
        return self._gate.without_values(error)

    def cause(self, error: Exception) -> Exception | None:
        """What an explained error may name as its cause: nothing that holds values of protected columns."""
        return None if self._job.data.privacy.protected else error

    def recorded(self) -> dict[str, Any]:
        """Fields of the manifest."""
        return {
            "privacy": self._gate.to_dict(),
            "expectations": tuple(self._expectations),
            "transform": self._hook.to_dict() if self._hook is not None else None,
        }
