"""Builders as users write them, good and bad. Tests copy this file beside their job files, as `network.py`.

Options: `marks` is a directory in which a network leaves files that tests read; `step` is when something happens.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from farandole.models.mlp import Mlp
from farandole.shards import Schema

RANK = int(os.environ.get("HOROVOD_RANK", "0"))


class Network(Mlp):
    """A small network that can do something before each training step."""

    def __init__(self, schema: Schema, before: Callable[[int, dict[str, torch.Tensor]], None] | None = None) -> None:
        super().__init__(schema, hidden=(16,), dropout=0.1, embedding_dropout=0.0, max_embedding=4)
        self._before = before
        self._step = 0

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        if self.training and self._before is not None:
            self._step += 1
            self._before(self._step, groups)
        return super().forward(**groups)


def build(schema: Schema) -> nn.Module:
    return Network(schema)


def build_recording_rows(schema: Schema, marks: str) -> nn.Module:
    """Build a network that writes the `row` values of each step as one line; without dropout, which draws per rank."""

    def note(step: int, groups: dict[str, torch.Tensor]) -> None:
        with Path(marks, f"rank-{RANK}").open("a") as file:
            file.write(" ".join(repr(value) for value in groups["row"][:, 0].tolist()) + "\n")

    network = Network(schema, note)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def build_recording_attempts(schema: Schema, marks: str, step_s: float = 0.0) -> nn.Module:
    """Build a network that writes the `row` values of each step to one file per attempt and rank.

    While a file `slow` exists among the marks, each step of a gang of two takes two seconds.
    """
    size, attempt = int(os.environ["HOROVOD_SIZE"]), os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"]

    def note(step: int, groups: dict[str, torch.Tensor]) -> None:
        with Path(marks, f"{attempt}-{size}-{RANK}").open("a") as file:
            file.write(" ".join(repr(value) for value in groups["row"][:, 0].tolist()) + "\n")
        time.sleep(2.0 if size == 2 and Path(marks, "slow").exists() else step_s)

    network = Network(schema, note)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    secret = os.environ.get("FARANDOLE_TEST_SECRET", "")
    Path(marks, f"{attempt}-secret-{RANK}").write_text(hashlib.sha256(secret.encode()).hexdigest())
    return network


def build_branching(schema: Schema) -> nn.Module:
    """Build a network with a branch that depends on the data, which torch.export cannot follow."""

    class Branching(Network):
        def forward(self, **groups: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(**groups)
            return outputs if float(groups["dense"].sum()) > -1e9 else -outputs

    return Branching(schema)


def build_counting_ids(schema: Schema) -> nn.Module:
    """Build a network that uses ids as numbers, without an embedding."""

    class Counting(Network):
        def forward(self, **groups: torch.Tensor) -> torch.Tensor:
            return super().forward(**groups) + groups["categorical"].sum(1, keepdim=True)

        id_layers = None

    return Counting(schema)


def build_raising(schema: Schema, **options: Any) -> nn.Module:
    raise KeyError("no such layer")


def build_nothing(schema: Schema) -> Any:
    return "a network"


def build_fixed(schema: Schema) -> nn.Module:
    return nn.Identity()


def build_two_wide(schema: Schema, mode: str = "training") -> nn.Module:
    """Build a network whose outputs have a wrong shape in one of its modes, `training` or `evaluation`."""

    class TwoWide(Network):
        def forward(self, **groups: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(**groups)
            return torch.cat([outputs, outputs], dim=1) if self.training == (mode == "training") else outputs

    return TwoWide(schema)


def build_with_steps(schema: Schema, pools: bool = False, members: int | None = None) -> nn.Module:
    """Build a network whose outputs have an axis of steps in training, and in evaluation unless it pools them."""

    class Steps(Network):
        def forward(self, **groups: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(**groups)
            return outputs if pools and not self.training else outputs.unsqueeze(1).expand(-1, 3, -1)

    network = Steps(schema)
    if members is not None:
        network.members = members  # type: ignore[assignment]
    return network


def build_diverging(schema: Schema) -> nn.Module:
    class Diverging(Network):
        def forward(self, **groups: torch.Tensor) -> torch.Tensor:
            return super().forward(**groups) * float("nan")

    return Diverging(schema)


def build_complex(schema: Schema) -> nn.Module:
    """Build a network with complex weights and buffers, one of them a conjugate view, and buffers of other types."""

    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.real = nn.Linear(schema.group("dense").size, 4)
            self.turn = nn.Parameter(torch.randn(4, dtype=torch.complex64))
            self.out = nn.Linear(4, schema.target.num_outputs)
            self.register_buffer("phases", torch.polar(torch.ones(4), torch.arange(4.0)))
            self.register_buffer("mirrored", torch.tensor([1 + 2j]).conj())
            self.register_buffer("narrow", torch.ones((), dtype=torch.bfloat16))
            self.register_buffer("seen", torch.zeros((), dtype=torch.long))

        def forward(self, dense: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
            turned = self.real(dense) * self.phases * self.turn
            outputs: torch.Tensor = self.out((turned * self.mirrored).real)
            return outputs

    return Complex()


def first_output(outputs: torch.Tensor, label: torch.Tensor) -> float:
    """Return the first output of a split: a metric."""
    return float(outputs[0, 0])


def build_with_prior(schema: Schema, fails: bool = False) -> nn.Module:
    """Build a network that keeps the bias that it is to start with."""

    class Prior(Network):
        prior: torch.Tensor

        def initialize_output(self, bias: torch.Tensor) -> None:
            if fails:
                raise ValueError("no bias")
            self.prior = bias

    return Prior(schema)


def build_with_sample(schema: Schema, fails: bool = False) -> nn.Module:
    """Build a network that keeps the sample of training rows."""

    class Sampled(Network):
        sample: dict[str, torch.Tensor]

        def initialize_inputs(self, **groups: torch.Tensor) -> None:
            if fails:
                raise ValueError("no sample")
            self.sample = groups

    return Sampled(schema)


STEEP_ABOVE = 0.5
"""Above this value of the group `row`, the gradient of `build_overflowing` is infinite."""


def build_overflowing(schema: Schema) -> nn.Module:
    """Build a network with finite outputs whose gradient is infinite for some rows: the slope of a root at zero."""

    class Overflowing(Network):
        def forward(self, **groups: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(**groups)
            steep = groups["row"] > STEEP_ABOVE
            return outputs + torch.where(steep, outputs * 0, torch.ones_like(outputs)).sqrt()

    return Overflowing(schema)


def build_huge(schema: Schema) -> nn.Module:
    """Build a network that allocates more memory than any GPU has."""

    def ask(step: int, groups: dict[str, torch.Tensor]) -> None:
        torch.empty(2**44, dtype=torch.uint8, device=groups["dense"].device)

    return Network(schema, ask)


def build_failing(
    schema: Schema, how: str, rank: int, step: int, marks: str | None = None, times: int = 1, group: str = ""
) -> nn.Module:
    """Build a network that breaks one rank at a step; with `marks`, at most `times` times."""

    def fail(now: int, groups: dict[str, torch.Tensor]) -> None:
        if rank != RANK or now != step:
            return
        if marks is not None:
            failed = len(list(Path(marks).glob("failed-*")))
            if failed == times:
                return
            Path(marks, f"failed-{failed}").touch()
        _fail(how, group)

    return Network(schema, fail)


def _fail(how: str, group: str) -> None:
    """End or disturb this process in the given way."""
    if how in ("kill", "freeze"):
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    elif how in ("exit", "leave"):
        print("about to leave", flush=True)
        os._exit(7 if how == "exit" else 0)
    elif how == "hang":
        time.sleep(3600)
    elif how == "memory":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
        bytearray(2**30)
    elif how == "group":
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
        time.sleep(3)  # until the next heartbeats
        bytearray(b"x" * 2**30)
    raise ValueError("the third step is too much")


def build_slow(schema: Schema, marks: str, step_s: float) -> nn.Module:
    """Build a network with slow steps and a child process in another session; it reports when it has begun.

    While a file `hold` exists among the marks, no step from the number in it on ends.
    """
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    Path(marks, f"rank-{RANK}-child").write_text(str(child.pid))

    def wait(step: int, groups: dict[str, torch.Tensor]) -> None:
        Path(marks, f"rank-{RANK}-began").write_text(str(os.getpid()))
        time.sleep(step_s)
        while _is_held(Path(marks, "hold"), step):
            time.sleep(0.05)

    return Network(schema, wait)


def _is_held(hold: Path, step: int) -> bool:
    try:
        return step >= int(hold.read_text())
    except FileNotFoundError:
        return False


def build_reading_secret(schema: Schema, marks: str) -> nn.Module:
    """Build a network that reads a secret and searches the command lines of all processes for it."""
    secret = os.environ["MY_SECRET"]
    command_lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    Path(marks, f"rank-{RANK}").write_text(f"{len(secret)} {sum(secret.encode() in line for line in command_lines)}")
    return Network(schema)
