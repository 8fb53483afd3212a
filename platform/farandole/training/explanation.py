"""Explanation of a trained model, by rank zero after the evaluation: `train.explain`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from farandole.errors import FarandoleError
from farandole.events import Message, StageEnded, StageStarted
from farandole.explaining.importance import Metric
from farandole.explaining.model import ExplainedModel
from farandole.explaining.report import Limits, Report, explain_model
from farandole.explaining.samples import sample_dataset
from farandole.preprocess import Preprocessing
from farandole.process.messages import send_message
from farandole.spec import metric_key
from farandole.spec.train import LOWER_IS_BETTER
from farandole.training.evaluation.metrics import compute_metrics, metric_functions

if TYPE_CHECKING:
    from farandole.tracking.recorder import Recorder
    from farandole.training.trainer import Trainer


def explain_training(trainer: Trainer, recorder: Recorder) -> None:
    """Explain the trained network and record the explanation; failing to is a warning, since the model is good."""
    send_message(StageStarted("explain", "explaining the model"))
    try:
        report = _explain(trainer)
        if report is None:
            send_message(Message("the dataset has no test rows, so the model is not explained", "warning"))
            return
        _record(report, recorder)
    except Exception as error:  # noqa: BLE001 - a trained model must not be lost for want of an explanation
        text = str(error) if isinstance(error, FarandoleError) else f"{type(error).__name__}: {error}"
        send_message(Message(f"the model is not explained: {text}", "warning"))
        return
    send_message(StageEnded("explain", report.summary))


def _explain(trainer: Trainer) -> Report | None:
    job, manifest = trainer.job, trainer.dataset.manifest
    # Pictures and texts of single rows of an encrypted dataset would leave it in the clear.
    limits = Limits(seed=job.train.seed, shows_rows=manifest.encryption is None)
    sample = sample_dataset(trainer.dataset, limits.rows)
    if sample is None:
        return None
    # A copy, since hooks of the optimizer and the device belong to the training.
    network = copy.deepcopy(trainer.model).cpu()
    preprocessing = Preprocessing.from_dict(manifest.preprocessing)
    model = ExplainedModel(network, preprocessing, manifest.statistics, job.network.builder)
    return explain_model(model, sample, _metric(trainer), limits, name=job.name)


def _metric(trainer: Trainer) -> Metric:
    """Return the job's first metric."""
    job, label = trainer.job, trainer.dataset.manifest.columns.target
    name, own = job.metrics[0], metric_functions(job)

    def value(outputs: np.ndarray, true: np.ndarray) -> float | None:
        found = compute_metrics((name,), torch.from_numpy(outputs), torch.from_numpy(true), label, own)
        return found.get(metric_key(name))

    return Metric(metric_key(name), value, name in LOWER_IS_BETTER)


def _record(report: Report, recorder: Recorder) -> None:
    from farandole.explaining.plots import plot_report

    recorder.log_json(report.document, "explanations/report.json")
    for name, image in plot_report(report).items():
        recorder.log_file(f"explanations/{name}", image)
