"""Launcher that plays a script of messages instead of starting workers; it imports nothing of Farandole, to start fast.

    fake_launcher.py SCRIPT.json [ARGUMENT ...]

The script is a list with the steps of each attempt, in order. A step is `["print", TEXT]`, `["wait", COMMAND]` (for a
command on standard input), `["sleep", SECONDS]` or `["exit", CODE]`. The commands that arrive are appended to
`SCRIPT.json.commands`, the arguments of each attempt to `SCRIPT.json.arguments`.
"""

import json
import sys
import time


def main() -> None:
    """Play the steps of the next attempt."""
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        attempts = json.load(file)
    with open(f"{path}.arguments", "a+", encoding="utf-8") as file:
        file.seek(0)
        number = len(file.readlines())
        file.write(json.dumps(sys.argv[2:]) + "\n")
    with open(f"{path}.commands", "a", encoding="utf-8") as commands:
        for action, value in attempts[number]:
            if action == "print":
                sys.stdout.write(value)
                sys.stdout.flush()
            elif action == "wait":
                while (line := sys.stdin.readline()) and line.strip() != value:
                    commands.write(line)
                commands.write(line)
            elif action == "sleep":
                time.sleep(value)
            else:
                sys.exit(value)


if __name__ == "__main__":
    main()
