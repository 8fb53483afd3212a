"""Export of the network by the second rank, while rank zero evaluates what the test rows say.

torch.export imports torch's compiler, more than a second of processor time. At the end of a training only rank zero has
something to do; so another rank of its host exports the network, whose weights are the same on all ranks, and rank zero
takes the file. If it does not fit, or none appears, rank zero exports the network itself.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import nn

from farandole.bundle.program import program_source, save_program
from farandole.jobdir.layout import PROGRAM, PROGRAM_STATE
from farandole.preprocess import Preprocessing
from farandole.process.atomic import write_json
from farandole.process.collection import paused_collection
from farandole.training.checkpoint import weights_digest
from farandole.training.world import World

_TIMEOUT_S = 30.0
"""Time that rank zero waits for the other rank. An export that takes longer would not be quicker on rank zero; but a
rank that hangs must not hold up the result for ever."""
_POLL_S = 0.02


def is_exporter(gang: World) -> bool:
    """Return whether this rank exports the network for rank zero: the second rank, on the same host."""
    return gang.rank == 1 and gang.local_rank == 1


def has_exporter(gang: World) -> bool:
    """Return whether another rank exports the network for this one."""
    return gang.is_rank_zero and gang.local_size > 1


def clear_program(directory: Path) -> None:
    """Remove what an earlier attempt exported. Call it on rank zero, before the training."""
    for name in (PROGRAM_STATE, PROGRAM):
        (directory / name).unlink(missing_ok=True)


def export_program(network: nn.Module, preprocessing: Preprocessing, directory: Path) -> None:
    """Export a network into the job's directory. An error is not one of the training: rank zero meets it as well.

    Args:
        network: The network with its final weights; it is moved to the CPU.
        preprocessing: The fitted preprocessing, which makes the features of an example.
        directory: The job's directory.
    """
    state: dict[str, Any] = {"weights_digest": None}
    try:
        with warnings.catch_warnings(), paused_collection():
            warnings.simplefilter("ignore")  # torch.export warns about its internals
            features = preprocessing.features(preprocessing.raw_batch(preprocessing.example()))
            digest = weights_digest(network.state_dict())
            save_program(network.cpu().eval(), features, directory / PROGRAM)
        state["weights_digest"] = digest
        if (directory / PROGRAM_STATE).exists():  # rank zero no longer waits
            clear_program(directory)
            return
    except Exception:  # noqa: BLE001 - whatever error a user's forward causes in torch.export
        (directory / PROGRAM).unlink(missing_ok=True)
    with suppress(OSError):  # rank zero stops waiting without it
        write_json(directory / PROGRAM_STATE, state)


@contextmanager
def shared_program(gang: World, directory: Path, digest: str) -> Iterator[None]:
    """Let bundles that are written inside the block have the program that the other rank exports, if there is one.

    Args:
        gang: The position of this rank.
        directory: The job's directory.
        digest: Digest of the weights.
    """
    if not has_exporter(gang):
        yield
        return
    with program_source(lambda path: take_program(directory, digest, path)):
        yield


def take_program(directory: Path, digest: str, path: Path, timeout_s: float = _TIMEOUT_S) -> bool:
    """Move the program that the other rank exports to `path`.

    Args:
        directory: The job's directory.
        digest: Digest of the weights that the program must have.
        path: The program's new file.
        timeout_s: Seconds to wait for the other rank.

    Returns:
        Whether there is one of these weights.
    """
    deadline_s = time.monotonic() + timeout_s
    while not (directory / PROGRAM_STATE).exists():
        if time.monotonic() > deadline_s:
            with suppress(OSError):  # the other rank then removes its file, which would stay
                write_json(directory / PROGRAM_STATE, {"weights_digest": None})
            return False
        time.sleep(_POLL_S)
    try:
        if json.loads((directory / PROGRAM_STATE).read_text(encoding="utf-8")).get("weights_digest") != digest:
            return False
        shutil.move(directory / PROGRAM, path)
    except (OSError, ValueError):
        return False
    finally:
        clear_program(directory)
    return True
