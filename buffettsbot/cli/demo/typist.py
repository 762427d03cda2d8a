"""The command line for the demo, loaded once: each command is a process forked from this one.

Loading takes half a second and more, which a person who types one command now and then does not
mind, and the demo would pay twenty times. A line on stdin is `[arguments, stdout's file, stderr's
file]` in JSON; a line on stdout is the exit code.
"""

import json
import os
import sys

from buffettsbot.cli import main, passes, payments, plans, subscribers, users, verify

LOADED = (passes, payments, plans, subscribers, users, verify)


def wait_for_commands() -> None:
    """Run what comes, one after the other, until stdin ends."""
    for line in iter(sys.stdin.readline, ""):
        arguments, stdout, stderr = json.loads(line)
        child = os.fork()
        if child == 0:
            _redirect({0: os.devnull, 1: stdout, 2: stderr})
            sys.argv[1:] = arguments
            main()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _redirect(files: dict[int, str]) -> None:
    for number, name in files.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
        os.dup2(os.open(name, flags, 0o600), number)


if __name__ == "__main__":
    wait_for_commands()
