"""`buffettsbot schedule`: the timetable under any clock, the children, and the real process."""

import contextlib
import datetime as datetimes
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from zoneinfo import ZoneInfo

import pytest
from commands import PROGRAM, ROOT, Commands
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    clean_env,
    fake_chain,
    ledger,
    member,
    membership,
    person,
    queued,
    rows,
    silence,
)
from serving import PATIENCE, Sandbox, sandboxed

from buffettsbot.cli import schedule
from buffettsbot.cli.schedule import TICK
from buffettsbot.cli.schedule import children as children_module
from buffettsbot.cli.schedule.children import Children, Ended
from buffettsbot.cli.schedule.timetable import Timetable
from buffettsbot.core.app import utcnow
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, PassRun

# The timetable


def set_clock_of_library(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[], datetime], local: ZoneInfo
) -> None:
    """Let the library, which looks at the host's clock by itself, see another one."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: datetimes.tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock().astimezone(tz or local).replace(tzinfo=tz)

    library = SimpleNamespace(**vars(datetimes) | {"datetime": Clock})
    monkeypatch.setattr("schedule.datetime", library)


class Simulated:
    """A host in some time zone: its clock, and a timetable that runs as the command runs it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, now: datetime, zone: str, host: str = "UTC"
    ) -> None:
        self.now = now
        self.started: list[tuple[datetime, str]] = []
        self.busy: set[str] = set()
        set_clock_of_library(monkeypatch, lambda: self.now, ZoneInfo(host))
        self.table = Timetable(self.start, zone=ZoneInfo(zone), clock=lambda: self.now)
        self.table.start_all()

    def start(self, name: str) -> bool:
        if name in self.busy:
            return False
        self.started.append((self.now, name))
        return True

    def run(self, span: timedelta, tick: float = 20.0) -> None:
        """Let so much time pass. The command looks every `TICK` seconds; this host is slower."""
        end = self.now + span
        while self.now < end:
            self.now = min(self.now + timedelta(seconds=tick), end)
            self.table.start_due()

    def jump(self, by: timedelta) -> None:
        """The host slept, or its clock was set."""
        self.now += by
        self.table.start_due()

    def times(self, name: str) -> list[datetime]:
        return [at for at, started in self.started if started == name]


def test_every_pass_runs_at_the_start_and_then_at_its_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = datetime(2026, 3, 1, 22, 57, 12, tzinfo=UTC)
    host = Simulated(monkeypatch, begin, "Europe/Berlin")
    assert {name for _, name in host.started} == {"settle", "remind", "expire", "deliver"}
    assert {at for at, _ in host.started} == {begin}
    host.run(timedelta(minutes=10), tick=TICK)
    minutes = [begin.replace(second=0) + n * MINUTE for n in range(1, 11)]
    midnight = datetime(2026, 3, 1, 23, 0, tzinfo=UTC)
    for name in ("settle", "deliver"):
        assert [at.replace(microsecond=0) for at in host.times(name)] == [begin, *minutes]
    for name in ("remind", "expire"):
        assert [at.replace(microsecond=0) for at in host.times(name)] == [begin, midnight]


@pytest.mark.parametrize(
    ("zone", "begin", "midnights"),
    [
        # 00:00 to 01:00 does not exist on 8 March; the day begins at 01:00
        ("America/Havana", "2026-03-07T12:00", ["2026-03-08T05:00", "2026-03-09T04:00"]),
        # 00:00 to 01:00 comes twice on 1 November
        ("America/Havana", "2026-10-31T12:00", ["2026-11-01T04:00", "2026-11-02T05:00"]),
        # at 00:00 on 25 October it is 23:00 of the 24th again
        ("Asia/Beirut", "2026-10-24T09:00", ["2026-10-24T22:00", "2026-10-25T22:00"]),
    ],
)
@pytest.mark.parametrize("host", ["UTC", "Europe/Berlin", "America/Havana"])
def test_summer_time_neither_loses_a_day_nor_stops_the_minutes(
    monkeypatch: pytest.MonkeyPatch, zone: str, begin: str, midnights: list[str], host: str
) -> None:
    start = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    simulated = Simulated(monkeypatch, start, zone, host)
    simulated.run(timedelta(hours=46))
    expected = [start, *(datetime.fromisoformat(m).replace(tzinfo=UTC) for m in midnights)]
    found = simulated.times("expire")
    assert len(found) == 3
    for at, wanted in zip(found, expected, strict=True):
        assert abs(at - wanted) <= MINUTE
    settled = simulated.times("settle")
    gaps = [later - sooner for sooner, later in zip(settled, settled[1:], strict=False)]
    assert max(gaps) <= 2 * MINUTE


def test_a_host_that_slept_does_once_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Simulated(monkeypatch, datetime(2026, 3, 1, 12, tzinfo=UTC), "UTC")
    host.started.clear()
    host.jump(3 * DAY)
    assert sorted(name for _, name in host.started) == ["deliver", "expire", "remind", "settle"]
    host.started.clear()
    host.run(timedelta(minutes=3))
    assert host.times("remind") == []


def test_a_clock_that_is_set_back_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Simulated(monkeypatch, datetime(2026, 3, 3, 12, tzinfo=UTC), "UTC")
    host.jump(-2 * DAY)
    host.started.clear()
    host.run(timedelta(minutes=3))
    assert len(host.times("settle")) == 3
    host.run(timedelta(hours=13))
    assert date(2026, 3, 2) in {at.date() for at in host.times("expire")}


def test_a_daily_pass_that_could_not_work_has_another_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Simulated(monkeypatch, datetime(2026, 3, 3, 12, tzinfo=UTC), "UTC")
    host.table.let_run_again("remind")
    host.started.clear()
    host.run(timedelta(minutes=5))
    assert len(host.times("remind")) == 1
    assert host.times("expire") == []


def test_a_daily_pass_that_is_still_running_at_midnight_runs_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Simulated(monkeypatch, datetime(2026, 3, 3, 23, 58, tzinfo=UTC), "UTC")
    host.busy = {"expire"}
    host.run(timedelta(minutes=5))
    host.busy = set()
    host.run(timedelta(minutes=5))
    assert [at.day for at in host.times("expire")] == [3, 4]


# The children

SCRIPT = r"""
case "$1" in
quick)    echo '{"due": 3, "done": 2, "skipped": 1, "failed": 0}' ;;
nothing)  echo '{"due": 1, "done": 0, "skipped": 1, "failed": 0}' ;;
partly)   echo '{"due": 2, "done": 1, "skipped": 0, "failed": 1}'; echo 'a warning' >&2; exit 1 ;;
broken)   echo 'Traceback' >&2; exit 1 ;;
refused)  echo 'a warning' >&2
          echo '{"error": "not-allowed", "message": "The token is wrong."}' >&2; exit 4 ;;
away)     echo '{"error": "unavailable", "message": "The database is away."}' >&2; exit 5 ;;
chatty)   head -c 1000000 /dev/zero | tr '\0' x; head -c 1000000 /dev/zero | tr '\0' y >&2 ;;
hangs)    exec sleep 600 ;;
stubborn) trap '' TERM; echo ready; while :; do sleep 0.05; done ;;
esac
"""


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    script = tmp_path / "pass.sh"
    script.write_text(SCRIPT)
    made = Children(defaultdict(lambda: 100.0), program=("sh", str(script)))
    yield made
    for child in made._running.values():
        child.process.kill()
    made.stop()


def until(true: Callable[[], object], what: str = "it") -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"{what} does not come"
        time.sleep(0.01)


def ended(children: Children, count: int) -> dict[str, Ended]:
    """Wait until so many have ended."""
    found: dict[str, Ended] = {}
    until(lambda: found.update({e.name: e for e in children.tend()}) or len(found) >= count)
    return found


def test_each_end_is_told_in_a_line_or_not_at_all(children: Children) -> None:
    names = ("quick", "nothing", "partly", "broken", "refused", "away", "chatty")
    assert all(children.start(name) for name in names)
    found = ended(children, len(names))
    assert {name: (one.summary, one.words[:30]) for name, one in found.items()} == {
        "quick": ("3 due, 2 done, 1 left, 0 failed", ""),
        "nothing": ("", ""),
        "partly": ("2 due, 1 done, 0 left, 1 failed", "a warning"),
        "refused": ("The token is wrong.", "a warning"),
        "away": ("The database is away.", ""),
        "broken": ("failed with exit code 1", "Traceback"),
        "chatty": ("", 30 * "y"),
    }
    assert {name for name, one in found.items() if one.is_to_be_repeated} == {"away"}


def test_a_pass_never_runs_twice_at_once_and_one_that_hangs_is_ended(children: Children) -> None:
    now = 1000.0
    children.clock = lambda: now
    assert children.start("hangs")
    assert children.start("stubborn")
    until(lambda: children._running["stubborn"].stdout.seek(0, os.SEEK_END), "its trap")
    assert not children.start("hangs")
    assert children.tend() == []
    now += 100
    assert children.tend() == []  # SIGTERM to both
    gone = ended(children, 1)["hangs"]
    assert (gone.code, gone.overdue, gone.is_to_be_repeated) == (-signal.SIGTERM, True, True)
    assert "took too long" in gone.summary
    assert children.start("hangs")
    now += 9
    assert children.tend() == []
    now += 1
    assert children.tend() == []  # SIGKILL
    assert ended(children, 1)["stubborn"].code == -signal.SIGKILL
    assert list(children._running) == ["hangs"]


def test_the_end_waits_for_the_children_and_kills_the_stubborn(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children_module, "END_SECONDS", 0.3)
    children.start("hangs")
    children.start("stubborn")
    until(lambda: children._running["stubborn"].stdout.seek(0, os.SEEK_END), "its trap")
    processes = [child.process for child in children._running.values()]
    children.stop()
    assert [p.returncode for p in processes] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_child_whose_parent_was_killed_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """Nobody is left to end it: it is ended all the same."""
    (tmp_path / "pass.sh").write_text(SCRIPT)
    script = (
        "import os, signal\n"
        "from buffettsbot.cli.schedule import children\n"
        "children.END_SECONDS = 0.1\n"
        "started = children.Children({'hangs': 0.5}, program=('sh', 'pass.sh'))\n"
        "started.start('hangs')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        start_new_session=True,
    )
    assert parent.wait(PATIENCE) == -signal.SIGKILL
    killed = time.monotonic()
    assert len(processes_of(parent.pid)) == 1
    until(lambda: processes_of(parent.pid) == [], "the end of the orphan")
    assert time.monotonic() - killed < 30  # not after the 600 s that it would have taken


# The command


class Scripted(Children):
    """Children that only seem to run, and end as the test says."""

    started: ClassVar[list[str]] = []
    ends: ClassVar[list[Ended]] = []

    def start(self, name: str) -> bool:
        self.started.append(name)
        return True

    def tend(self) -> list[Ended]:
        ended, Scripted.ends = Scripted.ends, []
        return ended


def test_a_daily_pass_that_was_away_is_run_again_within_the_day(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [datetime(2026, 3, 3, 12, tzinfo=UTC)]

    def sleep(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)
        if clock[0] > datetime(2026, 3, 3, 12, 5, tzinfo=UTC):
            os.kill(os.getpid(), signal.SIGTERM)

    set_clock_of_library(monkeypatch, lambda: clock[0], ZoneInfo("UTC"))
    monkeypatch.setattr(schedule, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(schedule, "utcnow", lambda: clock[0])
    monkeypatch.setattr(schedule, "Children", Scripted)
    Scripted.started.clear()
    Scripted.ends = [
        Ended("remind", 5, {}, "The database is away.", "a warning", overdue=False),
        Ended("expire", 4, {}, "The guard stops it.", "", overdue=False),
    ]
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        said = Commands(sqlite_url, telegram_token="1:token").inside("schedule").refused(0)
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert said.splitlines()[1:] == [
        "2026-03-03 12:00:00 remind: The database is away.",
        "2026-03-03 12:00:00 remind: a warning",
        "2026-03-03 12:00:00 expire: The guard stops it.",
    ]
    counted = {name: Scripted.started.count(name) for name in sorted(set(Scripted.started))}
    assert counted == {"deliver": 6, "expire": 1, "remind": 2, "settle": 6}


# The real process


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox


def world(db: Database, sandbox: Sandbox) -> None:
    """One whose time is up, one to be reminded, one whose payment waits; and their messages."""
    now = utcnow()
    member(db, 7, "ann", now=now - 31 * DAY)
    member(db, 8, "ben", now=now - 29.5 * DAY)
    person(db, 9, "cid")
    paid = sandbox.pay()
    chain = fake_chain({paid: silence()})
    period = "1 month"
    claim(db, chain, EXPECTATION, person=9, period=period, transaction_hash=paid, now=now - DAY / 9)


class Running:
    """A real `schedule`, in a session of its own, so that its descendants can be found."""

    def __init__(self, database_url: str, sandbox: Sandbox, directory: Path) -> None:
        self.file = directory / "said"
        settings = sandbox.settings | {"telegram_token": "1:token"}
        with self.file.open("w") as stderr:
            self.process = subprocess.Popen(
                [*PROGRAM, "schedule"],
                cwd=ROOT,
                env=clean_env(database_url, **settings),
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.file.read_text()

    def wait_for(self, *words: str) -> None:
        until(lambda: all(each in self.said for each in words), f"{words} in {self.said!r}")

    def end_by(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


def processes_of(session: int) -> list[int]:
    """Return the processes of a session, but for the dead that nobody has asked about."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            if os.getsid(int(name)) == session and state != "Z":
                found.append(int(name))
    return found


def finished(db: Database) -> set[str]:
    return {run.name for run in rows(db, PassRun) if run.finished_at is not None}


def test_the_process_does_what_is_due_and_ends_in_good_order(
    db: Database, database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    world(db, sandbox)
    running = Running(database_url, sandbox, tmp_path)
    try:
        each = (f" {name}: 1 due, 1 done, 0 left" for name in ("expire", "remind", "settle"))
        running.wait_for("The passes run now", " deliver: ", *each)
    finally:
        code = running.end_by(signal.SIGTERM if db.is_sqlite else signal.SIGINT)
    assert code == 0, running.said
    assert processes_of(running.process.pid) == []
    assert finished(db) == {"settle", "remind", "expire", "deliver"}
    assert membership(db, 7).expired_at is not None
    assert "reminder" in queued(db, 8)
    assert [p.status for p in ledger(db) if p.customer_id == 9] == ["accepted"]
    sent = [row.kind for row in rows(db, Outbox) if row.status == "sent" and row.chat_id == 7]
    assert "welcome" in sent


def test_a_pass_that_hangs_or_fails_stops_no_other_and_nothing_outlives_the_end(
    sqlite_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    db = Database(sqlite_url)
    world(db, sandbox)
    sandbox.fail("timeout")
    sandbox.state.telegram.token = "2:another"
    running = Running(sqlite_url, sandbox, tmp_path)
    try:
        running.wait_for("deliver: Telegram refuses the bot's token", "expire: ", "remind: ")
        until(sandbox.asked, "settle")
        assert len(processes_of(running.process.pid)) >= 2
    finally:
        code = running.end_by(signal.SIGTERM)
    assert code == 0
    assert processes_of(running.process.pid) == []
    assert "settle" not in finished(db), "it was not ended, it came to its end"
    db.close()
    assert "Traceback" not in running.said


def test_everything_that_is_wrong_is_named_at_the_start(sqlite_url: str) -> None:
    run = Commands(sqlite_url, wallet=None, timezone="Mars", reminder_days="x", language="tlh")
    said = run.inside("schedule").refused(4)
    for name in ("WALLET", "TELEGRAM_TOKEN", "TIMEZONE", "REMINDER_DAYS", "LANGUAGE"):
        assert f"BUFFETTSBOT_{name} " in said


def test_no_module_of_the_directory_one_is_in_is_taken_for_ours(tmp_path: Path) -> None:
    """Somebody left a `buffettsbot` where an admin starts the command."""
    (tmp_path / "buffettsbot").mkdir()
    (tmp_path / "buffettsbot" / "__init__.py").touch()
    (tmp_path / "buffettsbot" / "__main__.py").write_text("open('taken', 'w')")
    script = (
        "import sys; sys.argv[0] = 'buffettsbot'\n"
        "from buffettsbot.cli.schedule.children import Children\n"
        "children = Children({'settle': 60.0})\n"
        "children.start('settle')\n"
        "while not (ended := children.tend()): pass\n"
        "print(ended)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env=clean_env(f"sqlite:///{tmp_path}/x.db") | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Ended(name='settle'" in done.stdout, done
    assert not (tmp_path / "taken").exists()
