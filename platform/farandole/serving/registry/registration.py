"""Registration of a version that was made from another one, as by compression."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

from farandole.serving.registry.versions import DERIVED_TAG
from farandole.tracking.model_store.bundles import FetchedBundle, find_folder
from farandole.tracking.model_store.connection import Registry
from farandole.tracking.model_store.reference import parse_registered


def register_bundle(
    source: FetchedBundle, bundle: Path, tags: Mapping[str, str], description: str, run_id: str | None = None
) -> str:
    """Add a version to a registered model: the MLflow model of another version, with another bundle in it.

    Args:
        source: The version that the bundle was made from, which is registered.
        bundle: The directory of the new bundle.
        tags: Tags of the new version.
        description: Its description, in Markdown.
        run_id: The MLflow run that trained the new bundle. Default: that of the other version.

    Returns:
        The URI of the new version.

    Raises:
        RegistryError: MLflow rejects the version.
        UnavailableError: MLflow does not answer.
    """
    registry = Registry()
    uri = f"models:/{source.name}/{source.version}"
    reference = parse_registered(uri)
    found = registry.find(reference)
    with registry.errors(), tempfile.TemporaryDirectory(prefix="farandole-version-") as scratch:
        repository = registry.artifacts(found.location)
        folder = find_folder(repository, reference)
        model = Path(repository.download_artifacts("", scratch))
        shutil.rmtree(model / folder)
        shutil.copytree(bundle, model / folder)
        run_id = run_id or found.run_id
        location, model_id = _log_model(registry, model, run_id)
        version = registry.client.create_model_version(
            source.name, location, run_id, {**tags, DERIVED_TAG: uri}, description=description, model_id=model_id
        )
    return f"models:/{source.name}/{version.version}"


def _log_model(registry: Registry, folder: Path, run_id: str | None) -> tuple[str, str | None]:
    """Store the files of an MLflow model; return their location, and the id of the model."""
    file = folder / MLMODEL_FILE_NAME
    saved = Model.from_dict(yaml.safe_load(file.read_text(encoding="utf-8")))
    run = registry.run(run_id or "")
    logged = registry.client.create_logged_model(run.info.experiment_id, source_run_id=run_id)
    saved.model_id, saved.model_uuid, saved.artifact_path = logged.model_id, logged.model_id, logged.artifact_location
    saved.save(str(file))
    registry.client.log_model_artifacts(logged.model_id, str(folder))
    registry.client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.artifact_location), str(logged.model_id)
