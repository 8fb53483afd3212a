"""`data.transform`: the user's own Python between the query and the features."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from farandole.errors import DataError
from farandole.ingest.sources.transform_modules import transform_digest, transform_modules
from farandole.ingest.spark.dataframes import check_deterministic, plain_message
from farandole.spec import Job

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:: .*)?)$", re.MULTILINE)
"""The line of a Python stack trace that names the error: the first one after the frames that is not indented."""

_HIDDEN = "its text may hold values, and data.privacy protects columns of this job"


class UserTransform:
    """The transform of a job, imported; its modules are those that lie beside the job file now.

    Args:
        job: A job that has one.

    Raises:
        DataError: The module or the function cannot be found or imported.
    """

    def __init__(self, job: Job) -> None:
        assert job.data.transform is not None
        self.reference = job.data.transform
        self._options = job.data.transform_options
        self._folder = str(Path(job.folder or "."))
        self._sources = transform_modules(self.reference, self._folder)
        self._digest = transform_digest(self._sources)
        self._show_values = not job.data.privacy.protected
        self._modules: list[ModuleType] = []

    def to_dict(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        return {"function": self.reference, "options": self._options, "sha256": self._digest}

    def apply(self, frame: DataFrame) -> DataFrame:
        """What the function makes of the query's rows. Until `close`, Spark's workers can run its code.

        Raises:
            DataError: The function raises, or returns something that no dataset can be made of.
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

    def explain(self, text: str) -> DataError | None:
        """The error of ours for a failure in Spark whose Python stack trace goes through the user's code."""
        own = [match for match in _FRAME.finditer(text) if self._owns(match["file"])]
        if not own:
            return None
        raised = _RAISED.search(text, own[-1].end())
        reason = raised[0].strip()[:300] if raised else "an error"
        if not self._show_values:
            reason = f"{reason.partition(':')[0]} ({_HIDDEN})"
        return DataError(
            f"data.transform: {self.reference}: raised {reason} in {own[-1]['file']}, line {own[-1]['line']}",
            detail=text,
        )

    def _import(self) -> list[ModuleType]:
        """Its modules, read anew: in a notebook their text may have changed since the last time."""
        for name in self._sources:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.path.insert(0, self._folder)
        try:
            with redirect_stdout(sys.stderr):
                importlib.import_module(next(iter(self._sources)))
        except Exception as error:  # noqa: BLE001 - raised again as one of ours
            raise self._raised("cannot be imported:", error) from (error if self._show_values else None)
        finally:
            sys.path.remove(self._folder)
        return [sys.modules[name] for name in self._sources if name in sys.modules]

    def _call(self, module: ModuleType, frame: DataFrame) -> DataFrame:
        place = f"data.transform: {self.reference}"
        name = self.reference.split(":")[1]
        function = getattr(module, name, None)
        if not callable(function):
            raise DataError(f"{place}: {module.__file__} has no function {name}; define it")
        sys.path.insert(0, self._folder)  # for imports inside functions
        try:
            with redirect_stdout(sys.stderr):  # standard output belongs to the result document
                made = function(frame, **self._options)
            if not isinstance(made, DataFrame):
                raise DataError(f"{place}: returned {type(made).__name__}; return a Spark DataFrame")
            check_deterministic(made, place)
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again as one of ours
            raise self._raised("raised", error) from (error if self._show_values else None)
        finally:
            sys.path.remove(self._folder)
        return made

    def _raised(self, verb: str, error: Exception) -> DataError:
        """The user's error, at the last line of the user's code that it went through."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if self._owns(frame.filename)]
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

    def _owns(self, file: str) -> bool:
        return any(str(path) == file for path in self._sources.values())
