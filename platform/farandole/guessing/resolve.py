"""`features: auto` and `kind: auto` of a job, replaced by guesses before anything else looks at them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from farandole.errors import SpecError, closest_match
from farandole.guessing.columns import Column
from farandole.guessing.features import FeatureGuess, LeftOut, drop_texts, guess_features
from farandole.guessing.labels import label_kind
from farandole.guessing.pictures import look_at_images
from farandole.guessing.queries import replaced_columns
from farandole.guessing.sampling.declared import sample_source
from farandole.ingest.sources.files import find_files
from farandole.shards import Manifest
from farandole.spec import Drop, ImageSource, Job, parse_job

_READ_TEXTS = ("farandole.models.text:build", "farandole.models.fusion:build")


@dataclass(frozen=True)
class Resolved:
    """A job without anything left to guess.

    Args:
        job: The job.
        features: The features that were guessed.
        left_out: The columns that became no feature, other than those that the job file leaves out.
        label_kind: The kind of the label, if it was guessed.
    """

    job: Job
    features: tuple[FeatureGuess, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    label_kind: str | None = None

    def describe(self) -> str:
        """Return what was guessed, in a sentence."""
        parts = []
        if self.features:
            shown = ", ".join(f"{feature.name} {feature.spec['kind']}" for feature in self.features[:8])
            parts.append(f"{len(self.features)} features ({shown}{', …' if len(self.features) > 8 else ''})")
        if self.label_kind is not None and self.job.data.label is not None:
            parts.append(f"a {self.label_kind} label")
        text = f"guessed {' and '.join(parts)} from the files"
        if self.left_out:
            shown = "; ".join(f"{entry.column}: {entry.reason}" for entry in self.left_out[:4])
            text += f"; left out {shown}{'; …' if len(self.left_out) > 4 else ''}"
        return text


def resolve_guesses(job: Job) -> Resolved:
    """Return the job with the features, and the kind of the label, that its files suggest.

    Args:
        job: The job; without anything to guess, it is returned as it is, and no file is read.

    Raises:
        SpecError: The job has a query or a transform, so that the files do not have its columns; a column to leave out
            does not exist; or the guesses break a rule of the job.
        DataError: The files cannot be read, or the label cannot be learned.
    """
    data = job.data
    if not job.data.is_guessed:
        return Resolved(job)
    name, source = next(iter(data.sources.items()))
    replaced = _replaced_columns(job, name)
    files = find_files(name, source).fetch()
    features: list[FeatureGuess] = []
    left_out: list[LeftOut] = []
    if isinstance(source, ImageSource):
        pictures = look_at_images(files)
        kind = _guess_kind([Column("label", pa.array(pictures.classes))], job)
        features = [FeatureGuess("image", "image", pictures.spec)] if data.auto_features is not None else []
        return Resolved(_with_guesses(job, features, kind), tuple(features), (), kind)
    sample = sample_source(name, source, files)
    columns = sample.columns
    kind = _guess_kind(columns, job)
    if data.auto_features is not None:
        features, left_out = guess_features(
            _candidates(columns, job, replaced), data.features, trend=data.split.time is None
        )
        if job.model is not None and job.model.builder.startswith("farandole.models.") and not _reads_texts(job):
            features, left_out = drop_texts(features, left_out, most_others=0)
        left_out += [LeftOut(column, reason) for column, reason in sample.unreadable.items()]
    return Resolved(_with_guesses(job, features, kind), tuple(features), tuple(left_out), kind)


def resolve_from_manifest(job: Job, manifest: Manifest) -> Job:
    """Return the job with the features, and the kind of the label, that its dataset was made with.

    Args:
        job: The job.
        manifest: The manifest of its dataset.
    """
    if not job.data.is_guessed:
        return job
    fitted = manifest.preprocessing
    features = [FeatureGuess(entry["name"], "", entry["spec"]) for entry in fitted["transforms"]]
    known = {feature.name for feature in features} - set(job.data.features)
    label = fitted["label"]
    kind = label["spec"]["kind"] if label and job.data.label and job.data.label.kind == "auto" else None
    guessed = [feature for feature in features if feature.name in known] if job.data.auto_features is not None else []
    return _with_guesses(job, guessed, kind)


def _replaced_columns(job: Job, source: str) -> frozenset[str]:
    """Return the columns of the files that the query replaces.

    Raises:
        SpecError: The query or a transform gives other columns than the files, or replaces one to be guessed from.
    """
    data = job.data
    replaced = frozenset[str]() if data.query is None else replaced_columns(data.query, source)
    is_auto = data.auto_features is not None
    field_path = "data.features: auto" if is_auto else "data.label.kind: auto"
    if replaced is None or data.transform is not None:
        cause = "data.query" if replaced is None else "data.transform"
        remedy = "list the features" if is_auto else "write binary, multiclass or regression"
        raise SpecError(f"{field_path} guesses from the columns of the files, which {cause} changes; {remedy}")
    if data.label is not None and data.label.kind == "auto" and data.label.column in replaced:
        raise SpecError(
            f"data.label.kind: auto guesses from column {data.label.column} of the files, which data.query changes;"
            " write binary, multiclass or regression"
        )
    left_out = set(data.auto_features.leave_out) if data.auto_features is not None else replaced
    for column in sorted(replaced - left_out - data.used_columns.keys()):
        raise SpecError(
            f"data.features: auto guesses from column {column} of the files, which data.query changes; name its feature"
        )
    return replaced


def _reads_texts(job: Job) -> bool:
    return job.model is not None and job.model.builder in _READ_TEXTS


def _guess_kind(columns: list[Column], job: Job) -> str | None:
    """Return the kind of the label, if the job file leaves it open.

    Raises:
        SpecError: There is no such column.
        DataError: Its values are not a label.
    """
    label = job.data.label
    if label is None or label.kind != "auto":
        return None
    column = next((column for column in columns if column.name == label.column), None)
    if column is None:
        raise SpecError(f"data.label: {_no_column(label.column, columns)}")
    if label.positive is not None:
        return "binary"
    return label_kind(column, "data.label")[0]


def _candidates(columns: list[Column], job: Job, replaced: frozenset[str]) -> list[Column]:
    """Return the columns that may become features, without those that the query replaces.

    Raises:
        SpecError: A column to leave out does not exist.
    """
    data = job.data
    assert data.auto_features is not None, "the features are guessed"
    names = {column.name for column in columns}
    for name in data.auto_features.leave_out:
        if name not in names:
            raise SpecError(f"data.features.{name}: false leaves a column out, but {_no_column(name, columns)}")
    used = set(data.used_columns) - {data.split.time} | set(data.auto_features.leave_out) | replaced
    used |= {feature.column or name for name, feature in data.features.items()}
    used |= {name for name, policy in data.privacy.columns.items() if isinstance(policy, Drop)}
    return [column for column in columns if column.name not in used]


def _no_column(name: str, columns: list[Column]) -> str:
    known = [column.name for column in columns]
    close = closest_match(name, known)
    return f"there is no column {name}; " + (
        f"did you mean {close}?" if close else f"there are {', '.join(known[:12])}"
    )


def _with_guesses(job: Job, features: list[FeatureGuess], kind: str | None) -> Job:
    """Return the job with its guesses written out, checked as if a user had written them."""
    raw = job.model_dump(mode="json")
    data: dict[str, Any] = raw["data"]
    texts = job.data.privacy.text_columns
    guessed = {
        feature.name: _as_category(feature) if (feature.column or feature.name) in texts else feature.spec
        for feature in features
    }
    data["features"] = json.loads(json.dumps(guessed)) | data["features"]
    data["auto_features"] = None
    if kind is not None:
        data["label"]["kind"] = kind
    return parse_job(raw, folder=job.folder or ".", origin=f"job {job.name}")


def _as_category(feature: FeatureGuess) -> dict[str, Any]:
    """Return a feature of the text that a privacy policy makes of a column."""
    if feature.spec["kind"] in ("categorical", "text"):
        return feature.spec
    return {"kind": "categorical", "column": feature.column}
