"""Export of a model, wherever it is: the bundle of a registered model, of a run or of a job, with the job's query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from farandole.bundle import open_bundle
from farandole.bundle.documents import LINEAGE
from farandole.bundle.export import ExportedBundle, export_bundle
from farandole.errors import BundleError, DataError, FarandoleError, SpecError, UnavailableError
from farandole.events import EventHandler, Message, ignore_event
from farandole.jobdir.layout import SPEC, job_directory
from farandole.jobdir.outcome import read_result
from farandole.serving.query import UntranslatableError
from farandole.serving.registry import fetch_bundle
from farandole.spec import Job, parse_job

QUERY_ROWS = 10_000
"""Rows of the source on which a translated query is compared with Spark."""


def export_model(
    model: str,
    directory: Path,
    *,
    onnx: bool = True,
    query_rows: int = QUERY_ROWS,
    sign_key: Path | None = None,
    on_event: EventHandler = ignore_event,
) -> ExportedBundle:
    """Export the bundle of a model; see `farandole.bundle.export.export_bundle`.

    Args:
        model: A bundle's directory, `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/RUN_ID/model`, or the id or
            the directory of a job that has succeeded.
        directory: The new bundle's directory, which must not exist.
        onnx: Whether to add an ONNX graph.
        query_rows: Rows of the source on which the job's query is compared with Spark before it is added; a query that
            cannot travel is reported. 0: it is not added.
        sign_key: PEM file of the Ed25519 key to sign with.
        on_event: Receives messages and warnings.

    Raises:
        RegistryError: There is no such model.
        SpecError: The job has no model.
        BundleError: The bundle is damaged, the directory exists, or a form differs from the others.
        UnavailableError: The libraries for ONNX are not installed, or MLflow does not answer.
    """
    source = fetch_bundle(_model_of_job(model) or model, on_event)
    extend = _query_writer(source, query_rows, on_event) if query_rows else None
    return export_bundle(source, directory, onnx=onnx, sign_key=sign_key, extend=extend, on_event=on_event)


def _model_of_job(text: str) -> str | None:
    """Return the URI of a job's model; None if the text is not a job.

    Raises:
        SpecError: The job has not succeeded, or has no model.
    """
    if ":/" in text:
        return None
    directory = Path(text)
    if not directory.exists() and "/" not in text and text not in ("", ".", ".."):
        directory = job_directory(text)
    if not (directory / SPEC).is_file():
        return None
    uri = ((read_result(directory) or {}).get("model") or {}).get("uri")
    if not uri:
        raise SpecError(f"{text}: the job has no model; `farandole logs {directory.name}` shows how it ended")
    return str(uri)


def _query_writer(source: Path, rows: int, on_event: EventHandler) -> Callable[[Path], None] | None:
    """Return a function that adds the translated query of a bundle's job to a folder; None if there is no query."""
    bundle = open_bundle(source)
    try:
        job = parse_job(bundle.read_json(LINEAGE)["job"], origin=LINEAGE)
    except (BundleError, SpecError, KeyError, TypeError) as error:
        on_event(Message(f"the job of the bundle is not known, so its query does not travel ({error})", "warning"))
        return None
    if job.data.query is None:
        return None
    return lambda folder: _write_query(job, bundle.preprocessing.columns, rows, folder, on_event)


def _write_query(job: Job, columns: tuple[str, ...], rows: int, folder: Path, on_event: EventHandler) -> None:
    try:
        from farandole.serving.query.compare import translate_compared
    except ImportError as error:
        raise UnavailableError(
            "the job's query needs sqlglot and DuckDB, which are not installed; pip install 'farandole[serve]', or use"
            " --no-query"
        ) from error
    try:
        translate_compared(job, columns, rows=rows).save(folder)
    except (UntranslatableError, DataError, UnavailableError) as error:
        text = f"the job's query does not travel, so the columns of its result have to be sent: {error}"
        on_event(Message(text, level="warning"))
    except FarandoleError as error:
        on_event(Message(f"the job's query cannot be compared with Spark, so it does not travel: {error}", "warning"))
