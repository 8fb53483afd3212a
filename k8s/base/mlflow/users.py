"""Add users to MLflow, change their passwords, remove them, list them. Runs in MLflow's pod, as its administrator.

A password comes from $NEW_PASSWORD or the standard input, never from the command line, which everybody on the machine
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

PATIENCE_S = 600


def main(arguments: list[str]) -> None:
    """Do what the arguments say; the exit code is 2 where they, or MLflow, refuse."""
    what, *names = arguments or [""]
    if (what, len(names)) not in {("add", 1), ("password", 1), ("remove", 1), ("list", 0)}:
        _refuse("usage: users.py add NAME | password NAME | remove NAME | list")
    if what == "list":
        for user in _ask("GET", "list")["users"]:
            print(user["username"] + (" (admin)" if user["is_admin"] else ""))
        return
    name = names[0]
    if what == "remove":
        _ask("DELETE", "delete", {"username": name})
    elif what == "password":
        _ask("PATCH", "update-password", {"username": name, "password": _password()})
    elif name in [user["username"] for user in _ask("GET", "list")["users"]]:
        # So that a deployment can run again; and so that a password in use is never changed by the way.
        print(f"{name}: is there, with the password it has; `users.py password {name}` changes it")
        return
    else:
        _ask("POST", "create", {"username": name, "password": _password()})
    print(f"{name}: {what}: done")


def _password() -> str:
    return os.environ.get("NEW_PASSWORD") or sys.stdin.readline().rstrip("\n")


def _ask(method: str, route: str, body: dict[str, str] | None = None) -> dict[str, list[dict[str, str]]]:
    """One request to the server, which may still be starting."""
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
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as error:
            if error.code == 401:
                _refuse(f"{server}: the password of `admin` was changed; put the new one into the Secret `mlflow`")
            if error.code < 500:
                _refuse(f"{server}: {error.read().decode(errors='replace')[:300]}")
            reason = str(error)
        except OSError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            _refuse(f"{server}: no answer within {PATIENCE_S} s: {reason}")
        time.sleep(2)


def _refuse(words: str) -> None:
    print(words, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
