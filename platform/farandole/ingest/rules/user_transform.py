"""`data.transform`: the user's own Python between the query and the features."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from farandole.errors import DataError
from farandole.ingest.sources.transform_modules import transform_digest, transform_modules
from farandole.ingest.spark.dataframes import check_deterministic
from farandole.ingest.spark.error_transport import plain_message
from farandole.spec import Job

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:: .*)?)$", re.MULTILINE)
"""Line of a Python stack trace that names the error: the first one after the frames that is not indented."""

_HIDDEN = "its text may contain values, and data.privacy protects columns of this job"


@dataclass(frozen=True)
class TransformRecord:
    """The manifest's record of a transform.

    Args:
        function: `module:function`.
        options: Its options.
        sha256: The digest of its modules' texts.
    """

    function: str
    options: dict[str, Any]
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's `transform`."""
        return asdict(self)


class UserTransform:
    """The transform of a job, with the present texts of its modules.

    Args:
        job: A job that has a transform.

    Raises:
        DataError: The module cannot be found.
    """

    def __init__(self, job: Job) -> None:
        assert job.data.transform is not None
        self.reference = job.data.transform
        self._options = job.data.transform_options
        self._folder = str(Path(job.folder or "."))
        self._sources = transform_modules(self.reference, self._folder)
        self.record = TransformRecord(self.reference, self._options, transform_digest(self._sources))
        self._show_values = not job.data.privacy.protected
        self._modules: list[ModuleType] = []

    def apply(self, frame: DataFrame) -> DataFrame:
        """Apply the function to the query's rows. Until `close`, Spark's workers can run its code.

        Raises:
            DataError: The function cannot be imported, raises, or returns something that cannot become a dataset.
        """
        self._modules = self._import()
        for module in self._modules:
            # By value: the workers do not have the job's folder, and may hold an earlier text of the module.
            cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
        return self._call(self._modules[0], frame)

    def close(self) -> None:
        """Let its modules be pickled by name again."""
        for module in self._modules:
            cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]
        self._modules = []

    def explain_failure(self, text: str) -> DataError | None:
        """Return the error of a failed Spark job whose Python stack trace passes through the user's code.

        Args:
            text: The text of the failure.
        """
        frames = [match for match in _FRAME.finditer(text) if self._is_user_code(match["file"])]
        if not frames:
            return None
        raised = _RAISED.search(text, frames[-1].end())
        reason = raised[0].strip()[:300] if raised else "an error"
        if not self._show_values:
            reason = f"{reason.partition(':')[0]} ({_HIDDEN})"
        return DataError(
            f"data.transform: {self.reference}: raised {reason} in {frames[-1]['file']}, line {frames[-1]['line']}",
            detail=text,
        )

    def _import(self) -> list[ModuleType]:
        """Import its modules again: in a notebook their texts may have changed since the last time."""
        for name in self._sources:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.path.insert(0, self._folder)
        try:
            with redirect_stdout(sys.stderr):
                importlib.import_module(next(iter(self._sources)))
        except Exception as error:  # noqa: BLE001 - user code may raise anything; raised again as DataError
            raise self._data_error("cannot be imported:", error) from (error if self._show_values else None)
        finally:
            sys.path.remove(self._folder)
        return [sys.modules[name] for name in self._sources if name in sys.modules]

    def _call(self, module: ModuleType, frame: DataFrame) -> DataFrame:
        field_path = f"data.transform: {self.reference}"
        name = self.reference.split(":")[1]
        function = getattr(module, name, None)
        if not callable(function):
            raise DataError(f"{field_path}: {module.__file__} has no function {name}; define it")
        sys.path.insert(0, self._folder)  # for imports inside functions
        try:
            with redirect_stdout(sys.stderr):  # standard output belongs to the result document
                result = function(frame, **self._options)
            if not isinstance(result, DataFrame):
                raise DataError(f"{field_path}: returned {type(result).__name__}; return a Spark DataFrame")
            check_deterministic(result, field_path)
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - user code may raise anything; raised again as DataError
            raise self._data_error("raised", error) from (error if self._show_values else None)
        finally:
            sys.path.remove(self._folder)
        return result

    def _data_error(self, verb: str, error: Exception) -> DataError:
        """Make the error about an exception of user code, at the last line of this code that it passed through."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if self._is_user_code(frame.filename)]
        where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        if isinstance(error, SyntaxError) and not frames:
            where = f" in {error.filename}, line {error.lineno}"
        text = plain_message(str(error)) if isinstance(error, PySparkException) else str(error)
        if not self._show_values:
            return DataError(f"data.transform: {self.reference}: {verb} {type(error).__name__} ({_HIDDEN}){where}")
        reason = " ".join(f"{type(error).__name__}: {text}".split())[:400]
        return DataError(
            f"data.transform: {self.reference}: {verb} {reason}{where}",
            detail="".join(traceback.format_exception(error)),
        )

    def _is_user_code(self, file: str) -> bool:
        return any(str(path) == file for path in self._sources.values())
