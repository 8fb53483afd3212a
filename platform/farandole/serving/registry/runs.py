"""Files of a model's MLflow run: its job, the manifest of its dataset, its environment."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import Registry

JOB_FILE = "job/job.yaml"
ALL_FIELDS = "job/all_fields.json"
DATASET_MANIFEST = "dataset/manifest.json"
REQUIREMENTS = "environment/requirements.txt"
CHANGES = "environment/git.diff"


def read_artifact(registry: Registry, run_id: str, path: str) -> bytes | None:
    """Return a file of a run; None if it has no such file.

    Raises:
        StoreAwayError: MLflow does not answer.
    """
    folder = path.rpartition("/")[0]
    with registry.errors():
        if path not in [entry.path for entry in registry.client.list_artifacts(run_id, folder)]:
            return None
        with tempfile.TemporaryDirectory(prefix="farandole-artifact-") as scratch:
            return Path(registry.client.download_artifacts(run_id, path, scratch)).read_bytes()


def write_artifacts(registry: Registry, run_id: str, folder: str, files: dict[str, bytes]) -> None:
    """Add files to a folder of a run; those of the same name are replaced.

    Raises:
        StoreAwayError: MLflow does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="farandole-artifact-") as scratch:
        for name, content in files.items():
            path = Path(scratch, name)
            path.write_bytes(content)
        with registry.errors():
            registry.client.log_artifacts(run_id, scratch, folder)


def read_json(registry: Registry, run_id: str, path: str) -> dict[str, Any] | None:
    """Return a JSON document of a run; None if it has none, or it is not a document."""
    content = read_artifact(registry, run_id, path)
    try:
        document = json.loads(content) if content is not None else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def dataset_rows(run: Any) -> dict[str, int]:
    """Return the number of rows in each split of the dataset that a run has logged; empty if it has logged none."""
    for entry in run.inputs.dataset_inputs if run.inputs else ():
        try:
            rows = json.loads(entry.dataset.profile or "{}").get("rows")
        except ValueError:
            continue
        if isinstance(rows, dict):
            return {str(split): int(count) for split, count in rows.items()}
    return {}
