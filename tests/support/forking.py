"""The command line as real processes that need not wait for an interpreter to start.

    process = forking.start("plans", "list", env=env, stdin=0, stdout=1, stderr=2)
    assert process.wait(60) == 0

Beside the tests an interpreter waits that has imported the libraries, and nothing of ours. For each
order it forks a child, which takes over the environment, the directory and the descriptors that it
is given, and becomes `python -m buffettsbot`: our modules are imported in it, settings are read and
connections opened as in any process; it has a pid, and dies of signals. 0.2 s of a processor in
place of 0.7 s. Nothing is shared but what the libraries are at their import, so what depends on how
an interpreter starts (see `is_possible`) takes one of its own.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
ITS_OWN = {"LANG": "C.UTF-8", "PYTHONUTF8": "1"}  # how the interpreter starts

# What our modules import; nothing that looks at the environment when it is imported
# (`typer.rich_utils` does).
LIBRARIES = (
    "alembic.command",
    "base58",
    "bottle",
    "dotenv",
    "httpx",
    "platformdirs",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "rich.console",
    "rich.progress",
    "rich.table",
    "schedule",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlmodel",
    "typer",
    "waitress.server",
)

Descriptor = int | IO[Any]


def is_possible(env: Mapping[str, str], wrapper: Sequence[str] = ()) -> bool:
    """Say whether a process would start with this environment, run by this program, as the one that
    waits did: run by the same, so what that takes from it must be for all its life."""
    if wrapper and wrapper[0] != "setpriv":
        return False
    asked = {n: v for n, v in env.items() if n.startswith(("LANG", "LC_", "PYTHON"))}
    asked.pop("PYTHONPATH", None)
    return asked == ITS_OWN


# The side of the tests


@dataclass
class Forked:
    """A child: as much of `subprocess.Popen` as is needed. `told`: its pid, then how it ended."""

    args: tuple[str, ...]
    told: socket.socket
    pid: int = 0
    returncode: int | None = None
    stderr: IO[str] | None = None
    _heard: bytes = field(default=b"", repr=False)

    def poll(self) -> int | None:
        """Return its exit code (-9: killed) if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self.number(timeout)
            self.told.close()
        return self.returncode

    def number(self, timeout: float | None) -> int:
        """Return the next number that is told."""
        self.told.settimeout(timeout)
        while b"\n" not in self._heard:
            try:
                heard = self.told.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            assert heard, f"{self.args} went without a word"
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return int(line)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def start(
    *arguments: str,
    env: Mapping[str, str],
    stdin: Descriptor = subprocess.DEVNULL,
    stdout: Descriptor = subprocess.DEVNULL,
    stderr: Descriptor = subprocess.DEVNULL,
    wrapper: tuple[str, ...] = (),
) -> Forked:
    """Start `buffettsbot` with these arguments; the caller sees to its end.

    The streams are descriptors or files, or for stderr a pipe, which is then `stderr` of the child.
    """
    waiting = _waiting(wrapper)
    with contextlib.ExitStack() as ours:
        nowhere = ours.enter_context(Path(os.devnull).open("r+b"))
        order = ours.enter_context(tempfile.TemporaryFile("w+"))
        json.dump({"arguments": arguments, "env": dict(env), "cwd": str(ROOT)}, order)
        order.flush()
        here, there = socket.socketpair()
        ours.callback(there.close)
        child = Forked(arguments, here)
        if stderr == subprocess.PIPE:
            reader, writer = os.pipe()
            child.stderr = os.fdopen(reader, encoding="utf-8")
            stderr = writer
            ours.callback(os.close, writer)
        streams = [nowhere if one == subprocess.DEVNULL else one for one in (stdin, stdout, stderr)]
        files = [order, there, *streams]
        numbers = [one if isinstance(one, int) else one.fileno() for one in files]
        socket.send_fds(waiting, [b"!"], numbers)
        child.pid = child.number(60.0)
        return child


def run(
    *arguments: str,
    env: Mapping[str, str],
    stdin: str,
    timeout: float,
    wrapper: tuple[str, ...] = (),
) -> tuple[int, str, str]:
    """Run `buffettsbot` to its end; return its exit code, and what it wrote on stdout and stderr.

    Raises subprocess.TimeoutExpired; it is killed then.
    """
    with contextlib.ExitStack() as stack:
        heard, told, complained = (
            stack.enter_context(tempfile.TemporaryFile("w+b")) for _ in range(3)
        )
        heard.write(stdin.encode())
        heard.seek(0)
        child = start(
            *arguments, env=env, stdin=heard, stdout=told, stderr=complained, wrapper=wrapper
        )
        try:
            code = child.wait(timeout)
        finally:
            child.kill()
        return code, _text(told), _text(complained)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


@functools.cache
def _waiting(wrapper: tuple[str, ...]) -> socket.socket:
    """Return the way to the interpreter that waits; it is started when it is needed first."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there, contextlib.ExitStack() as ours:
        ours.callback(here.close)
        process = subprocess.Popen(
            [*wrapper, sys.executable, __file__, str(there.fileno())],
            env={n: os.environ[n] for n in ("PATH", "HOME") if n in os.environ} | ITS_OWN,
            pass_fds=[there.fileno()],
        )
        atexit.register(process.wait)
        atexit.register(ours.pop_all().close)  # which ends it; what is registered last comes first
    return here


# The side of the interpreter that waits


def _import_libraries() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _next_order(channel: socket.socket) -> dict[str, Any] | None:
    """Return, in a child of its own, each order that comes; and None once no more will come."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 1, 5)
        if not message:
            return None
        if os.fork() == 0:
            channel.close()
            return _in_a_child(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _in_a_child(order: int, telling: int, *streams: int) -> dict[str, Any]:
    """Return an order in a child that has taken over its streams; its parent waits for its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        with os.fdopen(order, encoding="utf-8") as file:
            file.seek(0)
            told: dict[str, Any] = json.load(file)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, 1024)
        return told
    for stream in streams:
        os.close(stream)
    with socket.socket(fileno=telling) as teller, contextlib.suppress(OSError):
        teller.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        teller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _take_over(order: Mapping[str, Any]) -> None:
    """Be as an interpreter that starts with these arguments, this environment, here."""
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:1] = [order["cwd"], *filter(None, path.split(os.pathsep))]
    sys.argv = ["buffettsbot", *order["arguments"]]
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    for name, number, errors in (
        ("stdout", 1, "surrogateescape"),
        ("stderr", 2, "backslashreplace"),
    ):
        stream = os.fdopen(number, "w", encoding="utf-8", errors=errors, closefd=False)
        stream.reconfigure(line_buffering=number == 2 or stream.isatty())
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _import_libraries()
    taken = _next_order(socket.socket(fileno=int(sys.argv[1])))
    if taken is not None:
        _take_over(taken)
        runpy.run_module("buffettsbot", run_name="__main__", alter_sys=True)
