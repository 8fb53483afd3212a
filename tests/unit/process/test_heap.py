from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

_FREED_AGAIN_AND_AGAIN = """
import ctypes, json, resource
from farandole.process.heap import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def step():  # like activations: many at a time, all freed at the end
    held = [libc.malloc(2**22) for _ in range(20)]
    for piece in held:
        libc.memset(piece, 1, 2**22)
    for piece in reversed(held):
        libc.free(piece)

if KEEP:
    assert keep_freed_memory()
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(json.dumps({"faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}))
"""


def _run_in_process(code: str) -> int:
    """Run code in a new process, because the allocator is set up once; returns the faults that it counted."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    faults: int = json.loads(done.stdout)["faults"]
    return faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has another allocator")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    kept, given_back = (_run_in_process(_FREED_AGAIN_AND_AGAIN.replace("KEEP", keep)) for keep in ("True", "False"))
    assert kept < 0.2 * given_back
