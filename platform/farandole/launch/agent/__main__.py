"""Entry point of the agent: `python -m farandole.launch.agent`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from farandole.errors import FarandoleError, explain_os_error
from farandole.launch.agent.messages import Answer, Refused, send

_MODULES = {
    "probe": "farandole.launch.agent.probe",
    "receive_code": "farandole.launch.agent.receive_code",
    "listen": "farandole.launch.agent.connectivity",
    "connect": "farandole.launch.agent.connectivity",
    "run_worker": "farandole.launch.agent.run_worker",
    "send_spools": "farandole.launch.agent.send_spools",
}
"""By request: the module with a function of that name, which takes the request and returns the answer."""


def main() -> None:
    """Read a request, execute it, and answer."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    os.environ.update(request.pop("environment", {}))
    do = request.pop("do")
    if do not in _MODULES:
        _refuse(f"its farandole cannot {do}: it is another version; install the version that is used here")
    try:
        answer = getattr(importlib.import_module(_MODULES[do]), do)(request)
    except FarandoleError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(explain_os_error(error, error.filename or do))
    send(Answer(answer))


def _refuse(message: str) -> None:
    send(Refused(message))
    sys.exit(0)


if __name__ == "__main__":
    main()
