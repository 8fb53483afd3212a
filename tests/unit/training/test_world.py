"""Collective operations, in a gang of one; gangs of several are in tests/launch."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

from farandole.errors import UnavailableError
from farandole.process import messages
from farandole.spec import Horovod
from farandole.training import world


def test_a_worker_that_was_not_started_by_the_launcher_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(messages.WORKERS_VARIABLE, "2")
    with (
        pytest.raises(UnavailableError, match=r"resources\.workers: 2 workers were asked for .* in a gang of 1; start"),
        world.init(),
    ):
        pytest.fail("it trained alone")


def test_a_gang_of_one_is_its_own_chief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(messages.WORKERS_VARIABLE, raising=False)
    with world.init() as gang:
        assert gang == world.World(rank=0, size=1, local_rank=0, local_size=1)
        assert gang.is_rank_zero
        assert world.all_reduce_sum([1.5, 2.0], "sums") == [1.5, 2.0]
        assert world.broadcast_object({"epoch": 3}, "object") == {"epoch": 3}
        assert world.all_gather_objects({"rank": 0}, "objects") == [{"rank": 0}]
        for tensor in (torch.rand(3, 2).T, torch.tensor(True), torch.rand(4).bfloat16(), torch.empty(0, 2)):
            torch.testing.assert_close(world.broadcast_tensor(tensor, f"tensor {tensor.dtype}"), tensor)
        values = torch.tensor([1.0, 2.0])
        world.start_all_reduce(values, "later").wait()
        assert values.tolist() == [1.0, 2.0]
        rows = torch.arange(12).reshape(3, 4).T
        torch.testing.assert_close(world.all_gather_rows(rows, "rows"), rows)


def test_what_horovod_cannot_sum_is_refused_before_it_aborts() -> None:
    with world.init():
        with pytest.raises(AssertionError, match="strided is not contiguous"):
            world.start_all_reduce(torch.ones(3, 2).T, "strided")
        with pytest.raises(AssertionError, match="half is bfloat16"):
            world.start_all_reduce(torch.ones(3, dtype=torch.bfloat16), "half")


def test_a_sum_and_its_parts_in_a_gang_of_one() -> None:
    with world.init():
        values = torch.arange(4.0)
        assert world.start_all_reduce(values, "whole").wait() is values
        torch.testing.assert_close(world.start_reduce_scatter(values, "parts").wait(), values)
        torch.testing.assert_close(world.start_all_gather(values, "rows").wait(), torch.arange(4.0))


def test_buffers_are_shared_and_a_model_may_have_none() -> None:
    with world.init():
        model = torch.nn.BatchNorm1d(2)
        model(torch.randn(8, 2))
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        world.broadcast_buffers(model)
        world.broadcast_buffers(torch.nn.Linear(1, 1))
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffer, before[name])


def _said_by_a_process(code: str, **variables: str) -> dict[str, Any]:
    """What a fresh process prints: Horovod and the allocator are set up once for each."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


_IDLE_FOR_A_SECOND = """
import json, os, time
from pathlib import Path
from farandole.training import world

def switches():
    found = 0
    for status in Path("/proc/self/task").glob("*/status"):
        if status.parent.name != str(os.getpid()):
            found += int(status.read_text().split("voluntary_ctxt_switches:")[1].split()[0])
    return found

with world.join():
    before = switches()
    time.sleep(1)
    print(json.dumps({"wakes": switches() - before, **{n: v for n, v in os.environ.items() if "CYCLE" in n}}))
"""


def test_horovods_thread_sleeps_while_there_is_nothing_to_sum() -> None:
    said = _said_by_a_process(_IDLE_FOR_A_SECOND)
    assert (said["HOROVOD_CYCLE_TIME"], said["HOROVOD_IDLE_CYCLE_TIME"]) == ("0.2", "20")
    often = _said_by_a_process(_IDLE_FOR_A_SECOND, HOROVOD_IDLE_CYCLE_TIME="1")
    assert often["HOROVOD_IDLE_CYCLE_TIME"] == "1", "what the user has set stays"
    assert said["wakes"] < 0.3 * often["wakes"]


def test_horovod_looks_for_the_best_cycle_time_itself_where_it_is_asked_to() -> None:
    said = _said_by_a_process(_IDLE_FOR_A_SECOND, HOROVOD_AUTOTUNE="1")
    assert "HOROVOD_CYCLE_TIME" not in said


_FREED_AGAIN_AND_AGAIN = """
import ctypes, json, resource
from farandole.training import allocator

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def step():  # as activations are: many at a time, all of them freed at its end
    held = [libc.malloc(2**22) for _ in range(20)]
    for piece in held:
        libc.memset(piece, 1, 2**22)
    for piece in reversed(held):
        libc.free(piece)

if KEEP:
    allocator.keep_freed_memory()
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(json.dumps({"faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has another allocator")
def test_memory_that_a_step_frees_is_there_for_the_next_one() -> None:
    kept, given_back = (
        _said_by_a_process(_FREED_AGAIN_AND_AGAIN.replace("KEEP", keep))["faults"] for keep in ("True", "False")
    )
    assert kept < 0.2 * given_back


def test_a_build_for_processors_is_told_before_it_sums_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(world.mpi_lib_v2, world._SUM_ON_GPU, raising=False)
    world.check_horovod_build(Horovod(), torch.device("cpu"))
    with pytest.raises(UnavailableError, match=r"for processors only .* `FARANDOLE_HOROVOD_GPU=1 make setup`"):
        world.check_horovod_build(Horovod(), torch.device("cuda", 0))
