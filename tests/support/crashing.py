"""Processes that are killed at a chosen step or moment, and a server that forks them.

    with forge(env) as forged:
        ending = forged.run(["pass", "expire"], env=env, kill_at=17)
        assert ending.killed and ending.step == "commit"

A `Forge` is one process (`python crashing.py`) that has imported the program and opened nothing.
For each order it forks a child, which runs the real command line (`buffettsbot.cli.main`) with its
own connections, and which really dies of SIGKILL: 50 ms in place of the 800 ms of a new
interpreter. The child counts its steps, and kills itself when it comes to step `kill_at`:

* before each statement, before each commit, and after it (committed, and nobody knows),
* before it connects to TRON or Telegram, before each piece that it sends to them, before it waits
  for their answer (asked, not answered), and when that has come (answered, not written down),
* at its end, with everything done.

What lies between two of these changes nothing outside the process, so they are all the moments
that there are. None of this is in the program: the steps are events of SQLAlchemy and methods of
sockets. Only what makes tests slow is changed: the size of a batch (1), and Telegram's pace.
"""

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
HEADER = 8
LONGEST_NAME = 120
PAUSE = 180.0  # seconds in which every lease of the dead ends


@dataclass(frozen=True)
class Order:
    """Command lines to run one after the other in one process, with this environment.

    `ahead`: how many seconds its clock goes before the real one; `PAUSE` more for each command
    after the first. `kill_at`: the step that it dies before. `kill_after`: seconds after which it
    is killed from outside.
    """

    commands: Sequence[Sequence[str]]
    env: Mapping[str, str]
    ahead: float = 0.0
    kill_at: int | None = None
    kill_after: float | None = None


@dataclass(frozen=True)
class Ending:
    """How a process ended: its exit code (-9: killed), its steps, the last one, what it wrote."""

    code: int
    steps: int
    step: str
    output: str

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL."""
        return self.code == -signal.SIGKILL


# The side of the tests


@dataclass(frozen=True)
class Forge:
    """The process that forks."""

    process: "subprocess.Popen[str]"

    def run(self, *commands: Sequence[str], **order: Any) -> Ending:
        """Run command lines in a fresh process, to their end or to where it is killed."""
        return self.run_all(Order(commands, **order))[0]

    def run_all(self, *orders: Order) -> list[Ending]:
        """Run processes at the same time; return how each ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([asdict(order) for order in orders]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the forge died"
        endings = [Ending(**ending) for ending in json.loads(line)]
        assert [e for e in endings if "Traceback" in e.output] == []
        return endings


@contextlib.contextmanager
def forge(env: Mapping[str, str]) -> Iterator[Forge]:
    """Start a forge, which gets warm with this environment."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        env={"PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Forge(process)
        assert process.stdin
        process.stdin.close()


# The side of the forge


class Steps:
    """Counts steps in memory that outlives the process, and dies at one of them."""

    def __init__(self, memory: mmap.mmap, kill_at: int | None) -> None:
        self._memory = memory
        self._kill_at = kill_at
        self._count = 0
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        """Note that this step is next."""
        with self._lock:
            self._count += 1
            text = name.encode()[:LONGEST_NAME].ljust(LONGEST_NAME)
            self._memory[: HEADER + LONGEST_NAME] = self._count.to_bytes(HEADER, "big") + text
            if self._count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def noted(memory: mmap.mmap) -> tuple[int, str]:
    """Return how many steps were noted, and the name of the last."""
    count = int.from_bytes(memory[:HEADER], "big")
    return count, memory[HEADER : HEADER + LONGEST_NAME].decode(errors="replace").strip()


def _watch_database(step: Steps) -> None:
    from sqlalchemy import Engine, event
    from sqlalchemy.engine.default import DefaultDialect

    def before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        step(" ".join(statement.split()))

    commit: Callable[[Any, Any], None] = DefaultDialect.do_commit

    def do_commit(dialect: Any, connection: Any) -> None:
        step("commit")
        commit(dialect, connection)
        step("committed")

    event.listen(Engine, "before_cursor_execute", before)
    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


def _watch_sockets(step: Steps) -> None:
    import socket

    def watched(name: str, after: str | None = None) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        def call(*arguments: Any) -> Any:
            step(name)
            result = method(*arguments)
            if after is not None:
                step(after)
            return result

        return call

    for name, after in (("connect", None), ("send", None), ("recv", "received")):
        setattr(socket.socket, name, watched(name, after))


class _Clock(datetime):
    """The system's clock, set forward."""

    ahead = 0.0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=cls.ahead)


def _set_up(order: Order) -> None:
    """Set the clock, the size of batches, and Telegram's pace."""
    from buffettsbot.core import app
    from buffettsbot.core.members import spans as sweeps
    from buffettsbot.core.telegram import pacing

    vars(app)["datetime"] = _Clock
    sweeps.SPAN = 1
    pacing.CHAT_SECONDS = pacing.GROUP_SECONDS = pacing.SECOND = pacing.STEP = 0.0


def _child(order: Order, memory: mmap.mmap, output: int) -> None:
    """Be the program."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(order.env)
    step = Steps(memory, order.kill_at)
    _watch_database(step)
    _watch_sockets(step)
    _set_up(order)
    code = 0
    for number, command in enumerate(order.commands):
        _Clock.ahead = order.ahead + number * PAUSE
        code = _run(command) or code
    step("end")
    os._exit(code)


def _run(command: Sequence[str]) -> int:
    import traceback

    from buffettsbot.cli import main

    sys.argv = ["buffettsbot", *command]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 -- as the interpreter does at its top
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _warm_up() -> None:
    """Import, read and build what every child needs; open nothing that stays open."""
    import gc

    import httpx
    import psycopg  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401
    from httpx._transports import default as transports
    from sqlalchemy.orm import configure_mappers

    certificates = httpx.create_ssl_context()  # 40 ms, and nothing here speaks TLS
    transports.create_ssl_context = lambda **_options: certificates  # type: ignore[attr-defined]
    output, words = os.dup(1), os.dup(2)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for name in ("settle", "remind", "expire", "deliver"):
        assert _run(["pass", name, "--dry-run"]) == 0
    os.dup2(output, 1)
    os.dup2(words, 2)
    configure_mappers()
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class _Process:
    """A forked child, what it counts, and what it writes."""

    pid: int
    memory: mmap.mmap
    output: IO[bytes]

    def ended(self) -> Ending:
        """Wait for its end."""
        _, status = os.waitpid(self.pid, 0)
        self.output.seek(0)
        text = self.output.read().decode(errors="replace")
        self.output.close()
        return Ending(os.waitstatus_to_exitcode(status), *noted(self.memory), text)


def _fork(order: Order) -> _Process:
    memory = mmap.mmap(-1, HEADER + LONGEST_NAME)
    output = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when the process has ended
    pid = os.fork()
    if pid == 0:
        _child(order, memory, output.fileno())
    return _Process(pid, memory, output)


def _serve() -> None:
    """Fork children for each line of orders that comes in by stdin, and say how they ended."""
    _warm_up()
    for line in sys.stdin:
        orders = [Order(**order) for order in json.loads(line)]
        begun = time.monotonic()
        processes = [_fork(order) for order in orders]
        timed = [(o.kill_after, p.pid) for o, p in zip(orders, processes, strict=True)]
        for after, pid in sorted((after, pid) for after, pid in timed if after is not None):
            time.sleep(max(0.0, begun + after - time.monotonic()))
            os.kill(pid, signal.SIGKILL)  # nobody has waited for it, so the pid is still its own
        endings = [asdict(process.ended()) for process in processes]
        sys.stdout.write(json.dumps(endings) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
