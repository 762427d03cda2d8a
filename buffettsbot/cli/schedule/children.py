"""Passes as child processes: one that hangs can be ended, and nothing of it reaches the others."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

END_SECONDS = 10.0  # between SIGTERM and SIGKILL
MOST_BYTES = 20_000  # of what a pass wrote: as much as anybody will read
# The command looks for no modules in the directory that somebody happens to be in; nor may these,
# unless they are started as we were: python -m buffettsbot.
_SAFELY = () if sys.argv[0].endswith("__main__.py") else ("-P",)
PROGRAM = (sys.executable, *_SAFELY, "-m", "buffettsbot", "pass")


@dataclass(frozen=True)
class Ended:
    """How a pass ended: its exit code (negative: a signal), its report or the error it ended with,
    and what else it said. `overdue`: it was told to end, because its time was over.
    """

    name: str
    code: int
    report: Mapping[str, Any]
    error: str
    words: str
    overdue: bool

    @property
    def is_to_be_repeated(self) -> bool:
        """Whether it did not come to an answer: unavailable, ended, or killed."""
        return self.code == 5 or self.code < 0

    @property
    def summary(self) -> str:
        """What is worth a line; empty when nothing was to be done and nothing went wrong."""
        if self.code < 0:
            why = "it took too long: " if self.overdue else ""
            name = signal.Signals(-self.code).name
            return f"{why}ended by {name}; what it had not done is still due"
        if "due" in self.report:
            counts = "{due} due, {done} done, {skipped} left, {failed} failed"
            return counts.format_map(self.report) if self.report["done"] or self.code else ""
        return (self.error or f"failed with exit code {self.code}") if self.code else ""


@dataclass
class _Child:
    name: str
    process: "subprocess.Popen[bytes]"
    stdout: IO[bytes]
    stderr: IO[bytes]
    deadline: float
    overdue: bool = False

    def close(self) -> Ended:
        """Return how it ended; nothing of it is left open."""
        with self.stdout, self.stderr:
            report, said = _parse_object(_read_end(self.stdout)), _read_end(self.stderr).rstrip()
        words, _, last_line = said.rpartition("\n")
        error = str(_parse_object(last_line).get("message", ""))
        return Ended(
            self.name,
            self.process.returncode,
            report,
            error,
            words if error else said,
            self.overdue,
        )


@dataclass
class Children:
    """The passes that run now, one of each name at most.

    `limits`: the seconds after which a pass is told to end; 10 seconds later it is killed.
    """

    limits: Mapping[str, float]
    program: Sequence[str] = PROGRAM
    clock: Callable[[], float] = time.monotonic
    _running: dict[str, _Child] = field(default_factory=dict)

    def start(self, name: str) -> bool:
        """Start a pass; False when it still runs. Raises OSError."""
        if name in self._running:
            return False
        limit = self.limits[name]
        # Files, not pipes: a pass that says much must not wait for somebody to read it.
        stdout, stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(  # noqa: S603 -- our own program
            [*self.program, name, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            process_group=0,  # Ctrl-C is meant for us, and we end them in good order
            # Should we be killed, nobody is there to end it: then it is ended by its own alarm,
            # which outlives the start of the program.
            preexec_fn=partial(signal.alarm, math.ceil(limit + 2 * END_SECONDS)),
        )
        self._running[name] = _Child(name, process, stdout, stderr, self.clock() + limit)
        return True

    def tend(self) -> list[Ended]:
        """Return those that have ended, and end those whose time is over."""
        ended = [child for child in self._running.values() if child.process.poll() is not None]
        for child in ended:
            del self._running[child.name]
        for child in self._running.values():
            overtime = self.clock() - child.deadline
            if overtime >= 0:
                child.overdue = True
                child.process.terminate()
            if overtime >= END_SECONDS:
                child.process.kill()
        return [child.close() for child in ended]

    def stop(self) -> None:
        """End them all: SIGTERM, 10 seconds, SIGKILL. What they had not done stays due."""
        for child in self._running.values():
            child.process.terminate()
        deadline = self.clock() + END_SECONDS
        for child in self._running.values():
            try:
                child.process.wait(max(0.0, deadline - self.clock()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.close()
        self._running.clear()


def _read_end(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MOST_BYTES))
    return file.read().decode(errors="replace")


def _parse_object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
