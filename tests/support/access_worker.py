"""A worker of a service, as a process: it authorizes, charges and records requests, and prints what became of each.

    python access_worker.py DIRECTORY NUM_REQUESTS ROWS < KEY

Prints `ready`, waits for a line on standard input, and then prints one line for each request: `ok NUMBER` after it was
recorded, or the code of the refusal.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from farandole.serving.access import Access, AccessConfig, AccessDenied


async def _serve(access: Access, key: str, num_requests: int, rows: int) -> None:
    headers = [(b"authorization", f"Bearer {key}".encode())]
    for number in range(num_requests):
        try:
            caller = await access.authorize(headers, "predict")
            access.charge(caller, rows)
        except AccessDenied as denied:
            print(denied.code, flush=True)
            continue
        request = f"{os.getpid()}-{number}"
        await access.record(caller, "predict", 200, model="m", version="1", digest="d", rows=rows, request=request)
        print(f"ok {request}", flush=True)


def main() -> None:
    """Serve the requests."""
    directory, num_requests, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    key = sys.stdin.readline().strip()
    with Access.open(AccessConfig(directory=directory, audit_required=True)) as access:
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.run(_serve(access, key, num_requests, rows))


if __name__ == "__main__":
    main()
