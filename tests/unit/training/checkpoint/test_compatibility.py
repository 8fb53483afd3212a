"""Checkpoints written by earlier versions.

`data/format-1` was written by version 0.1.0 of 2026-11-30, before the modules of training were renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from farandole.spec import Job
from farandole.training.checkpoint import CheckpointManager, open_backend
from farandole.training.checkpoint.rank_state import set_rank_state
from tests.support.trainer_harness import Harness

WRITTEN = Path(__file__).parent / "data" / "format-1"
TRAIN = {
    "epochs": 3,
    "precision": "fp16",
    "ema": {"decay": 0.9},
    "schedule": {"name": "plateau", "factor": 0.5, "patience": 0},
    "early_stopping": {"patience": 2, "restore_best": True},
}


def test_every_part_of_an_old_checkpoint_is_restored(harness: Harness, make_job: Callable[..., Job]) -> None:
    warnings: list[str] = []
    loaded = CheckpointManager(open_backend(WRITTEN), "golden", keep=1).load_newest(warnings.append, lambda state: None)
    assert warnings == []
    assert loaded is not None
    assert (loaded.meta["step"], loaded.meta["epoch"], loaded.meta["workers"]) == (21, 1, 1)
    state = dict(loaded.state)
    (rank,), loader = state.pop("ranks"), state.pop("loader")
    assert loader["rows"] == 5 * 64

    mlp = {"builder": "farandole.models.mlp:build", "options": {"hidden": [2], "dropout": 0.1}}
    trainer = harness.trainer(make_job(train=TRAIN, model=mlp))
    trainer.load_state_dict(state)
    trainer.load_partial_sums(rank["sums"])
    set_rank_state(rank, trainer.model, torch.device("cpu"))

    restored = trainer.state_dict()
    assert set(restored) == set(state) == {"model", "optimizer", "average", "scaler", "plateau", "stopper"}
    recorded_since = {name: restored["stopper"].pop(name) for name in ("epoch", "history")}
    assert recorded_since == {"epoch": 1, "history": [state["stopper"]["metrics"]]}
    torch.testing.assert_close(restored, state, rtol=0, atol=0)
    assert trainer.partial_sums() == rank["sums"]
    assert torch.equal(torch.get_rng_state(), rank["random"]["torch"])
