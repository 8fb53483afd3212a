"""The model of the job `flights` with its query, without a training: random weights, fitted on a few real flights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.bundle import Bundle, BundleContents, open_bundle, write_bundle
from farandole.bundle.manifest import write_manifest
from farandole.preprocess import Observations, Preprocessing, learn
from farandole.serving.query.translate import translate_both
from farandole.spec import load_job
from tests.support.paths import ROOT

_ROWS = 500


def make_flights_bundle(directory: Path) -> Bundle:
    """Write and open the bundle.

    Args:
        directory: Its directory.
    """
    import torch

    from farandole.models.mlp import build

    job = load_job(ROOT / "jobs/flights/job.yaml", ())
    translation, reader = translate_both(job)
    query = translation.query
    columns = query.apply(reader.sample(_ROWS)).columns
    batch = pa.record_batch(
        {
            **{name: columns.column(name).combine_chunks() for name in columns.column_names},
            "late": pa.array(np.arange(len(columns)) % 3 == 0),
        }
    )
    preprocessing = replace(Preprocessing.from_spec(job.data), types=dict(query.outputs))
    while not preprocessing.fitted:
        observations = Observations()
        observations.add(preprocessing, batch)
        preprocessing = learn(preprocessing, observations)
    torch.manual_seed(0)
    options: dict[str, Any] = {"hidden": [128, 64], "max_embedding": 16}
    contents = BundleContents("flights", "farandole.models.mlp:build", options, preprocessing)
    assert write_bundle(directory, build(preprocessing.schema, **options), contents) is None
    query.save(directory)
    write_manifest(directory, "flights")
    return open_bundle(directory)
