from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from farandole.process.locks import (
    RepeatedLock,
    boot_id,
    is_locked,
    lock_within,
    share_lock,
    start_ticks,
    temporary_lock,
    try_lock,
    wait_for_lock,
)

_HOLDS = "import sys; from pathlib import Path; from farandole.process.locks import try_lock; "
_HOLDS += "lock = try_lock(Path(sys.argv[1])); print(lock is not None, flush=True); sys.stdin.read()"


def test_lock_is_held_once_and_can_be_released(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert try_lock(tmp_path / "lock") is None
    lock.release()
    with wait_for_lock(tmp_path / "lock"):
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


def test_directory_can_be_locked(tmp_path: Path) -> None:
    with try_lock(tmp_path) or pytest.fail("the directory is locked"):
        assert try_lock(tmp_path) is None
        assert is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_path_is_created_only_on_request(tmp_path: Path) -> None:
    for refused in (lambda: try_lock(tmp_path / "a", create=False), lambda: is_locked(tmp_path / "a")):
        with pytest.raises(FileNotFoundError):
            refused()
    with pytest.raises(FileNotFoundError):
        share_lock(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "none" / "a")
    assert list(tmp_path.iterdir()) == []


def test_readers_share_a_lock_and_exclude_writers(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with share_lock(path), share_lock(path):
        assert try_lock(path) is None
    assert try_lock(path) is not None


def test_kernel_releases_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert try_lock(path) is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_for_lock(path).release()


def test_child_process_does_not_inherit_a_lock(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    child = subprocess.Popen(["sleep", "60"])
    lock.release()
    again = try_lock(tmp_path / "lock")
    child.kill()
    child.wait()
    assert again is not None
    again.release()


def test_temporary_lock_excludes_others_and_leaves_no_file(tmp_path: Path) -> None:
    inside, most = 0, 0
    mutex = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with temporary_lock(tmp_path / "lock"):
                with mutex:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with mutex:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_lock_that_is_free_soon_is_waited_for_and_another_is_not(tmp_path: Path) -> None:
    held = try_lock(tmp_path / "lock")
    assert held is not None
    assert lock_within(tmp_path / "lock", 0.05) is None
    threading.Timer(0.1, held.release).start()
    lock = lock_within(tmp_path / "lock", 60)
    assert lock is not None
    lock.release()


def test_process_is_identified_by_its_id_and_start_time() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid())
    child = subprocess.Popen(["true"])
    child.wait()
    assert start_ticks(child.pid) is None
    assert len(boot_id()) == 36


def test_repeated_lock_excludes_threads_processes_and_forked_children(tmp_path: Path) -> None:
    counter, lock = tmp_path / "counter", RepeatedLock(tmp_path / "lock")
    counter.write_text("0")

    def count() -> None:
        for _ in range(100):
            with lock:
                counter.write_text(str(int(counter.read_text()) + 1))

    child = os.fork()
    if child == 0:
        try:
            count()
            os._exit(0)
        finally:  # an error must not let a second pytest continue
            os._exit(1)
    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert counter.read_text() == "300"
    with lock:
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")
    lock.close()
