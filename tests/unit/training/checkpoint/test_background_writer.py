from __future__ import annotations

import os
import threading

import pytest

from farandole.training.checkpoint.writer import BackgroundWriter


def test_work_is_done_in_a_thread_of_lower_priority() -> None:
    writer, gate, seen = BackgroundWriter(asynchronous=True), threading.Event(), []

    def work() -> None:
        seen.append((threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        gate.wait(30)

    writer.start(work)
    assert writer.busy
    gate.set()
    writer.finish()
    assert not writer.busy
    assert seen == [("farandole-checkpoint", os.getpriority(os.PRIO_PROCESS, 0) + 10)]


def test_a_second_piece_of_work_waits_for_the_first() -> None:
    writer, done = BackgroundWriter(asynchronous=True), []
    for number in range(5):
        writer.start(lambda number=number: done.append(number))
    writer.finish()
    assert done == [0, 1, 2, 3, 4]


def test_an_error_is_raised_once_in_the_thread_that_asks() -> None:
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


def test_work_that_takes_too_long_is_not_waited_for() -> None:
    writer, gate = BackgroundWriter(asynchronous=True), threading.Event()
    writer.start(lambda: gate.wait(30))
    writer.finish(0.01)
    assert writer.busy
    gate.set()
    writer.finish()
    assert not writer.busy


def test_without_a_thread_the_work_is_done_at_once() -> None:
    writer, seen = BackgroundWriter(asynchronous=False), []
    writer.start(lambda: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]
    assert not writer.busy
