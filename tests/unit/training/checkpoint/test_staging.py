"""Flattening of a state, its copy in host memory, and the thread that writes it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import partial
from typing import Any

import pytest
import torch

from farandole.errors import ModelError
from farandole.training.checkpoint.staging import BackgroundWriter, StagingBuffers, TensorSlot, flatten, unflatten


def test_unflatten_restores_the_state() -> None:
    state: dict[str, Any] = {"a": [torch.ones(2), (1, 2.5)], "b": {0: {"c": torch.tensor(3), "d": 0.5}}}
    tree, tensors = flatten(state)
    assert tree == {"a": [TensorSlot(0), (1, 2.5)], "b": {0: {"c": TensorSlot(1), "d": 0.5}}}
    torch.testing.assert_close(unflatten(tree, tensors), state)


def test_tied_weights_are_one_tensor_and_views_are_several() -> None:
    weight = torch.arange(6.0)
    tree, tensors = flatten({"a": weight, "b": weight, "c": weight[:3], "d": torch.empty(0), "e": torch.empty(0)})
    assert tree["a"] == tree["b"] != tree["c"]
    assert tree["d"] != tree["e"]
    assert len(tensors) == 4


def test_versions_of_layers_are_kept() -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    again = unflatten(*flatten({"model": state}))["model"]
    assert isinstance(again, OrderedDict)
    assert again._metadata == state._metadata != {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, torch.nn.Linear(1, 1)])
def test_object_that_would_run_code_when_read_is_rejected(value: object) -> None:
    with pytest.raises(
        ModelError, match=r"model: the state model\.extra\[1\] is a \w+, which a checkpoint cannot hold"
    ):
        flatten({"model": {"extra": [1, value]}})


def test_copy_does_not_change_with_the_state() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    copied = StagingBuffers().copy({"w": weight, "step": 7})
    with torch.no_grad():
        weight.zero_()
    assert copied["step"] == 7
    assert copied["w"].tolist() == [1, 1, 1]
    assert not copied["w"].requires_grad


def test_memory_of_the_same_shape_is_reused() -> None:
    host = StagingBuffers()
    first = host.copy([torch.ones(4), torch.ones(2)])
    places = [tensor.data_ptr() for tensor in first]
    second = host.copy([torch.zeros(4), torch.zeros(3)])
    assert second[0].data_ptr() == places[0]
    assert [tensor.tolist() for tensor in second] == [[0] * 4, [0] * 3]
    third = host.copy([torch.zeros(4, dtype=torch.int32)])
    assert third[0].dtype == torch.int32


def test_memory_layout_is_kept() -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert StagingBuffers().copy([image])[0].stride() == image.stride()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copy_from_a_gpu_is_in_pinned_memory() -> None:
    (copied,) = StagingBuffers().copy([torch.arange(5, device="cuda")])
    assert copied.is_pinned()
    assert copied.tolist() == [0, 1, 2, 3, 4]


def test_task_runs_in_a_thread_of_lower_priority() -> None:
    writer, gate, seen = BackgroundWriter(asynchronous=True), threading.Event(), []

    def work() -> None:
        seen.append((threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        gate.wait(60)

    writer.start(work)
    assert writer.is_busy
    gate.set()
    writer.finish()
    assert not writer.is_busy
    assert seen == [("farandole-checkpoint", min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10))]


def test_second_task_waits_for_the_first() -> None:
    writer, done = BackgroundWriter(asynchronous=True), list[int]()
    for number in range(5):
        writer.start(partial(done.append, number))
    writer.finish()
    assert done == [0, 1, 2, 3, 4]


def test_error_of_a_task_is_raised_once_in_the_calling_thread() -> None:
    writer = BackgroundWriter(asynchronous=True)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    writer.start(fail)
    with pytest.raises(OSError, match="No space"):
        writer.finish()
    writer.check()
    writer.start(fail)
    with pytest.raises(OSError, match="No space"):
        writer.start(lambda: None)


def test_waiting_ends_at_the_time_out() -> None:
    writer, gate = BackgroundWriter(asynchronous=True), threading.Event()
    writer.start(lambda: gate.wait(60))
    writer.finish(0.01)
    assert writer.is_busy
    gate.set()
    writer.finish()
    assert not writer.is_busy


def test_synchronous_task_runs_in_the_calling_thread() -> None:
    writer, seen = BackgroundWriter(asynchronous=False), []
    writer.start(lambda: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]
    assert not writer.is_busy
