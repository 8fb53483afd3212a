"""Manage the users of MLflow: add or remove a user, change a password, list users. Runs in MLflow's pod.

Passwords are read from $NEW_PASSWORD or standard input, never from the command line, which every user of the machine
can read.

    python users.py add NAME | password NAME | remove NAME | list
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request

TIMEOUT_S = 600
DONE = {"add": "added", "password": "password changed", "remove": "removed"}


def main(arguments: list[str]) -> None:
    """Execute a command; exits with 2 if the command is invalid or MLflow rejects it."""
    command, *names = arguments or [""]
    if (command, len(names)) not in {("add", 1), ("password", 1), ("remove", 1), ("list", 0)}:
        _fail("usage: users.py add NAME | password NAME | remove NAME | list")
    if command == "list":
        for user in _request("GET", "list")["users"]:
            print(user["username"] + (" (admin)" if user["is_admin"] else ""))
        return
    name = names[0]
    if command == "remove":
        _request("DELETE", "delete", {"username": name})
    elif command == "password":
        _request("PATCH", "update-password", {"username": name, "password": _password()})
    elif name in [user["username"] for user in _request("GET", "list")["users"]]:
        # So that a deployment can be repeated, and never changes a password that is in use.
        print(f"{name}: exists, password unchanged; change it with `users.py password {name}`")
        return
    else:
        _request("POST", "create", {"username": name, "password": _password()})
    print(f"{name}: {DONE[command]}")


def _password() -> str:
    return os.environ.get("NEW_PASSWORD") or sys.stdin.readline().rstrip("\n")


def _request(method: str, route: str, body: dict[str, str] | None = None) -> dict[str, list[dict[str, str]]]:
    """Send a request to the server, which may still be starting; returns the answer."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "http://localhost:5000")
    admin = f"{os.environ['MLFLOW_AUTH_ADMIN_USERNAME']}:{os.environ['MLFLOW_AUTH_ADMIN_PASSWORD']}"
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/users/{route}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + base64.b64encode(admin.encode()).decode(),
            "Content-Type": "application/json",
        },
    )
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as error:
            if error.code == 401:
                _fail(f"{server}: rejected the password of `admin` (401); put the current one into the Secret `mlflow`")
            if error.code < 500:
                _fail(f"{server}: {error.read().decode(errors='replace')[:300]}")
            reason = str(error)
        except OSError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            _fail(f"{server}: no answer within {TIMEOUT_S} s: {reason}")
        time.sleep(2)


def _fail(text: str) -> None:
    print(text, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
