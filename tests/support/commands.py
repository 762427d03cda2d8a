"""The command line for tests: as a real process, on a terminal, or (for wide sweeps) in-process.

    run = Commands(database_url, tronscan_url=sandbox.url, trongrid_url=sandbox.url)
    assert run("plans", "create", "1 month", "50", "--json").json()["price"] == 50
    screen = run.on_terminal("plans", "list")     # what a person sees, 80 columns wide
    result = run.inside("plans", "list")          # no process: fast, for hundreds of arguments

Every result is checked for what may never be there: a traceback, or a bug's exit code.
"""

import contextlib
import copy
import fcntl
import gc
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import forking
import httpx
from helpers import SEED_NAMES, WALLET, clean_env
from rich.cells import cell_len
from typer.testing import CliRunner

import buffettsbot
from buffettsbot.cli import app
from buffettsbot.http.sandbox import running_sandbox

ROOT = Path(buffettsbot.__file__).parents[1]
PROGRAM = [sys.executable, "-m", "buffettsbot"]
PATIENCE = 120.0

_ERASED = re.compile(r"\x1b\[\?25l.*\x1b\[2K", re.DOTALL)  # a bar that came and went
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return the data of stdout, which has to be JSON and nothing else."""
        return json.loads(self.stdout)

    def error(self) -> dict[str, str]:
        """Return the error that stderr tells a program."""
        told: dict[str, str] = json.loads(self.stderr)
        return told

    def refused(self, code: int, *words: str) -> str:
        """Check that it ended with this code, these words on stderr, and no data; return them."""
        assert self.code == code, self
        assert self.stdout == "", self
        for word in words:
            assert word in self.stderr, self
        return self.stderr


@dataclass(frozen=True)
class Screen:
    """What a person saw on a terminal."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        """What stays on the screen, without colours."""
        return _CONTROL.sub("", _ERASED.sub("", self.raw))

    @property
    def lines(self) -> list[str]:
        """The lines that were shown, without colours and without blanks at their ends."""
        return [line.rstrip() for line in self.text.split("\n")]

    @property
    def widest(self) -> int:
        """How many cells the widest line takes."""
        return max(cell_len(line) for line in self.lines)


class Commands:
    """The command line with one database and some settings; nothing else of this machine."""

    def __init__(self, database_url: str, *, home: Path | None = None, **settings: object) -> None:
        self.env = clean_env(database_url, home=home, **settings)
        self.program = PROGRAM
        self.wrapper: tuple[str, ...] = ()

    def under(self, *wrapper: str) -> "Commands":
        """Return the same, each process run by another program (`unshare -m …`)."""
        wrapped = copy.copy(self)
        wrapped.wrapper = wrapper
        return wrapped

    def __call__(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> Result:
        """Run a command as a real process."""
        environment = self.env | (env or {})
        if self.program is PROGRAM and forking.is_possible(environment, self.wrapper):
            told = forking.run(
                *arguments, env=environment, stdin=stdin, timeout=PATIENCE, wrapper=self.wrapper
            )
            return _checked(Result(*told))
        done = subprocess.run(
            [*self.wrapper, *self.program, *arguments],
            env=environment,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return _checked(Result(done.returncode, done.stdout, done.stderr))

    def inside(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Result:
        """Run a command in this process, with the same environment."""
        foreign: dict[str, str | None] = {
            n: None for n in os.environ if n.startswith("BUFFETTSBOT_") or n in SEED_NAMES
        }
        environment = foreign | self.env | (env or {})
        with warnings.catch_warnings():
            # A process that ends closes its connections to TRON; this one lives on.
            warnings.simplefilter("ignore", ResourceWarning)
            done = CliRunner().invoke(
                app, list(arguments), input=stdin, env=environment, prog_name="buffettsbot"
            )
            if {"verify", "claim", "settle", "serve"}.intersection(arguments):
                gc.collect()
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return _checked(Result(done.exit_code, done.stdout, done.stderr))

    def start(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        stdout: int | IO[Any] = subprocess.PIPE,
    ) -> "subprocess.Popen[str]":
        """Start a command; the caller sees to its end."""
        return subprocess.Popen(
            [*self.wrapper, *self.program, *arguments],
            env=self.env | (env or {}),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_terminal(
        self,
        *arguments: str,
        answers: str = "",
        columns: int = 80,
        env: dict[str, str] | None = None,
    ) -> Screen:
        """Run a command on a terminal; `answers` is typed once it asks `[y/N]`."""
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = self.env | {"TERM": "xterm-256color"} | (env or {})
        process = forking.start(
            *arguments, env=environment, stdin=there, stdout=there, stderr=there
        )
        os.close(there)
        try:
            seen = _read_to_end(here, process, answers)
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(here)
        result = _checked(Result(code, seen.decode().replace("\r\n", "\n"), ""))
        return Screen(result.code, result.stdout)


def _read_to_end(terminal: int, process: forking.Forked, answers: str) -> bytes:
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            return seen
        if not piece:
            return seen
        seen += piece
        if answers and seen.endswith(b"[y/N] "):
            os.write(terminal, answers.encode())
            answers = ""
    raise AssertionError(f"{process.args!r} hangs; so far: {seen!r}")


def _checked(result: Result) -> Result:
    assert "Traceback" not in result.stdout + result.stderr, result
    assert result.code in (0, 2, 4, 5), result
    return result


class InsideCommands(Commands):
    """The same without processes: for the second database, where processes showed all they can."""

    def __call__(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> Result:
        """Run a command in this process."""
        return self.inside(*arguments, stdin=stdin, env=env)


class Sandbox:
    """The emulated TRON and Telegram, and how tests drive it."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self.http = http

    def pay(
        self, amount: str | int = 50, *, kind: str = "good", to: str = WALLET, **more: Any
    ) -> str:
        """Make a payment; return its hash."""
        spec = {"kind": kind, "to": to, "amount": str(amount), **more}
        made = self.http.post("/_sandbox/payments", json=spec)
        assert made.status_code == 201, made.text
        return str(made.json()["transaction_hash"])

    @contextlib.contextmanager
    def away(self, fault: str = "500") -> Iterator[None]:
        """Let both chain services fail, for a while."""
        for service in ("tronscan", "trongrid"):
            said = self.http.post("/_sandbox/faults", json={"service": service, "fault": fault})
            assert said.status_code < 300, said.text
        try:
            yield
        finally:
            self.http.delete("/_sandbox/faults").raise_for_status()

    def asked(self) -> int:
        """Return how many questions both services were asked so far."""
        seen = self.http.get("/_sandbox/requests").json()
        return len(seen["tronscan"]) + len(seen["trongrid"])


@contextlib.contextmanager
def open_sandbox() -> Iterator[Sandbox]:
    """Serve a sandbox in this process, and yield how to drive it."""
    with (
        running_sandbox() as url,
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http,
    ):
        yield Sandbox(url, http)


def commands(
    database_url: str, sandbox: Sandbox, *, inside: bool = False, **settings: object
) -> Commands:
    """Return the command line with this database, pointed at the sandbox."""
    kind = InsideCommands if inside else Commands
    settings = {"tronscan_url": sandbox.url, "trongrid_url": sandbox.url} | settings
    return kind(database_url, **settings)  # type: ignore[arg-type]
