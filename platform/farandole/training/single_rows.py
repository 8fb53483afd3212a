"""Check before training that batch normalisation never sees a single row, for which it has no variance."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from farandole.errors import ModelError
from farandole.loading import EvaluationLoader
from farandole.loading.slicing import slice_bounds
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.world import World

_ROWS = 2


def check_single_rows(job: Job, dataset: Dataset, model: nn.Module, gang: World, device: torch.device) -> None:
    """Try the network on one row, if a worker will ever compute one row alone.

    Otherwise the training would fail at the end of its first epoch, perhaps after hours.

    Raises:
        ModelError: A worker will compute a single row, which the network's batch normalisation rejects.
    """
    rows, size = dataset.manifest.rows("train"), job.train.batch_rows
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    whole = _has_single_row(min(rows, size), gang.size, job.train.accumulate_steps)
    left = rows % size if job.train.tail == "weight" and rows > size else 0
    tail = _has_single_row(left, gang.size, job.train.accumulate_steps)
    if not (whole or tail) or _accepts_one_row(dataset, model, device):
        return
    field_path = f"model.builder: {job.network.builder}: batch normalisation needs at least {_ROWS} rows"
    if whole:
        raise ModelError(
            f"{field_path}, and a worker computes a single one: {min(rows, size)} rows of a batch, {gang.size} workers,"
            f" {job.train.accumulate_steps} pieces (train.accumulate_steps); use a larger train.global_batch_size"
        )
    raise ModelError(
        f"{field_path}, and in the last batch of an epoch a worker computes a single one: {rows:,} training rows in"
        f" batches of {size:,} leave {left:,} for {gang.size} workers and {job.train.accumulate_steps} pieces; set"
        " `train.tail: drop`, or another train.global_batch_size"
    )


def _has_single_row(rows: int, workers: int, pieces: int) -> bool:
    """Return whether a worker computes one row alone when it computes its part of a batch in pieces."""
    for rank in range(workers):
        start, stop = slice_bounds(rank, workers, rows)
        bounds = [slice_bounds(number, pieces, stop - start) for number in range(pieces)]
        if any(last - first == 1 for first, last in bounds):
            return True
    return False


def _accepts_one_row(dataset: Dataset, model: nn.Module, device: torch.device) -> bool:
    """Return whether the network computes one row in training. Images have many values per channel, so that it may."""
    batch = next(iter(EvaluationLoader(dataset, "train", batch_rows=1, read_ahead=0))).to(device)
    random = torch.get_rng_state()
    try:
        tried = copy.deepcopy(model).train()  # the running means of the model stay as they are
        with torch.no_grad():
            tried(**batch.features)
    except ValueError as error:
        return "more than 1 value per channel" not in str(error)
    except Exception:  # noqa: BLE001 - not about a single row: the first step reports it
        return True
    finally:
        torch.set_rng_state(random)
    return True
