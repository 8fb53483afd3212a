"""`python -m farandole.launch.agent`: does one thing for the launcher, see the package."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from farandole.errors import FarandoleError
from farandole.process.messages import send_message

_DOES = {
    "look": "farandole.launch.agent.probe",
    "receive": "farandole.launch.agent.receive_code",
    "listen": "farandole.launch.agent.connectivity",
    "connect": "farandole.launch.agent.connectivity",
    "work": "farandole.launch.agent.run_worker",
    "collect": "farandole.launch.agent.send_spools",
}
"""By what is to be done: the module with a function of that name, which takes the request and returns the answer."""


def main() -> None:
    """Read what to do, do it, answer."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    os.environ.update(request.pop("environment", {}))
    do = request.pop("do")
    if do not in _DOES:
        _refuse(f"its farandole cannot {do}: it is another version; install the same there as here")
    try:
        answer = getattr(importlib.import_module(_DOES[do]), do)(request)
    except FarandoleError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename or do}: {error.strerror or error}; free some space there, or mend the permissions")
    send_message({"event": "answer", **answer})


def _refuse(message: str) -> None:
    send_message({"event": "refused", "message": message})
    sys.exit(0)


if __name__ == "__main__":
    main()
