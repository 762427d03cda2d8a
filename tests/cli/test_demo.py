"""The demo, as a newcomer runs it: it works, it is quick, and it leaves nothing behind."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, PROGRAM, ROOT
from helpers import shop
from rich.text import Text
from typer.testing import CliRunner

from buffettsbot.cli import app, demo
from buffettsbot.cli.demo import stage as demo_stage
from buffettsbot.cli.demo import story as demo_story
from buffettsbot.cli.demo.stage import Stage
from buffettsbot.core.app import utcnow
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.passes import Report

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Place:
    """A caller with settings of their own, all of which would spoil the demo."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.home, self.temporary = directory / "home", directory / "tmp"
        for made in (self.home, self.temporary):
            made.mkdir()
        env_file = directory / "caller.env"
        env_file.write_text("BUFFETTSBOT_API_TOKEN=of-the-file\nBUFFETTSBOT_NETWORK=shasta\n")
        hostile = {
            "DATABASE_URL": database_url,
            "ENV_FILE": str(env_file),
            "API_TOKEN": "token",
            "NETWORK": "nile",
            "WALLET": "nonsense",
            "CHAIN_QUORUM": "nonsense",
            "CHAIN_SOURCES": "trongrid",
            "TRONSCAN_URL": "http://127.0.0.1:9",
            "TIMEZONE": "Asia/Tokyo",
            "PAYMENT_MAX_AGE": "1s",
        }
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "API_KEY": "the seed's",
            "SQL_ENGINE": "django.db.backends.sqlite3",
            "SQL_DATABASE": str(directory / "of-the-seed.sqlite3"),
            "http_proxy": "http://127.0.0.1:9",
        } | {f"BUFFETTSBOT_{name}": value for name, value in hostile.items()}
        self.outside = {p: p.read_bytes() for p in directory.glob("*.db")}
        self.directory = directory

    def start(self, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        """Start the demo, in a session of its own, so that its descendants can be found."""
        return subprocess.Popen(
            [*PROGRAM, "demo"],
            cwd=ROOT,
            env=self.env | {"TERM": "xterm-256color"},
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def check_clean(self, session: int) -> None:
        """Check that neither files nor processes are left, and nothing of the caller changed."""
        assert list(self.temporary.iterdir()) == []
        assert list(self.home.iterdir()) == []
        assert {p: p.read_bytes() for p in self.directory.glob("*.db")} == self.outside
        assert not (self.directory / "of-the-seed.sqlite3").exists()
        assert list(_processes_of(session)) == []


def _processes_of(session: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            if os.getsid(int(name)) == session:
                yield int(name)


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str) -> Place:
    db = Database(sqlite_url)
    shop(db)
    db.close()
    return Place(tmp_path, sqlite_url)


def test_the_demo_plays_on_a_terminal_and_leaves_nothing_behind(place: Place) -> None:
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = place.start(there)
    os.close(there)
    written = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(here, 65536):
            written += piece
    os.close(here)
    shown = Text.from_ansi(written.decode().replace("\r\n", "\n")).plain
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, shown
    assert usage.ru_utime + usage.ru_stime < 30  # not the wall's: tests run side by side
    assert "All of it as it should be" in shown
    for words in (
        "1  The owner",
        "$ buffettsbot verify",
        "pays for  1 month",
        "no-usdt-transfer",
        "settle: 1 due, 1 done",
        "remind: 1 due, 1 done",
        "Telegram → Ben (a picture)",
        "expire: 1 due, 1 done",
        "Your membership has ended",
    ):
        assert words in shown
    assert "Traceback" not in shown
    place.check_clean(process.pid)


@pytest.mark.parametrize("number", SIGNALS[:2])
def test_a_demo_that_is_stopped_leaves_nothing_behind(place: Place, number: signal.Signals) -> None:
    process = place.start()
    assert process.stdout is not None
    for line in process.stdout:
        assert "\x1b" not in line
        if "$ buffettsbot" in line or "went wrong" in line:
            break
    process.send_signal(number)
    try:
        shown = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 128 + number, shown
    assert "Traceback" not in shown
    place.check_clean(process.pid)


# A step that does not show what it should


def _shows_something_else(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Wrong words.")
    stage.admin("--version", shows="no such words")


def _ends_otherwise(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Wrong code.")
    stage.admin("plans", "nonsense")


def _answers_otherwise(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Wrong status.")
    stage.call("GET", "/no/such/route", 200)


def _is_something_else(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Wrong value.")
    demo_story._expect(["admin-add"], ["admin-add", "admin-keep"])


def _cannot_pay(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("No such payment.")
    stage.pay("nonsense", 50)


def _hangs(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Nothing comes.")
    raise subprocess.TimeoutExpired("buffettsbot", 30)


def _does_nothing(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Nobody is due.")
    stage.run_later(utcnow(), lambda _db, _chain: Report("remind"))


def _does_it_twice(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Somebody is due for ever.")
    stage.run_later(utcnow(), lambda _db, _chain: Report("remind", due=1, done=1))


def _writes_to_nobody(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("No message.")
    stage.receives("Ann", demo_story.ANN, "Welcome!")


def _writes_something_else(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("Another message.")
    message = {"chat_id": demo_story.ANN, "text": "Farewell!"}
    stage.sandbox.post(f"/bot{demo_stage.TOKEN}/sendMessage", json=message).raise_for_status()
    stage.receives("Ann", demo_story.ANN, "Welcome!")


def _lets_nobody_in(stage: Stage) -> None:
    stage.scene("Fine.")
    stage.scene("No invitation.")
    stage.join(demo_story.ANN, "Welcome!")


def _play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Run the demo in this process; it has to fail, and to tidy up."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        result = CliRunner().invoke(app, ["demo"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert result.exit_code == 1, result.output
    assert "The demo went wrong: " in result.output
    assert "as it should be" not in result.output
    assert list(tmp_path.iterdir()) == []
    return result.output


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (_shows_something_else, "did not show 'no such words'"),
        (_ends_otherwise, "buffettsbot plans nonsense exited with 2 instead of 0"),
        (_answers_otherwise, "GET /no/such/route answered 404 instead of 200"),
        (_is_something_else, "['admin-add'] was shown instead of ['admin-add', 'admin-keep']"),
        (_cannot_pay, "400"),
        (_hangs, "timed out after 30 seconds"),
        (_does_nothing, "remind: 0 due, 0 done, instead of one, once"),
        (_does_it_twice, "remind: 1 due, 1 done, instead of one, once"),
        (_writes_to_nobody, "Ann received 0 messages instead of 1"),
        (_writes_something_else, "Ann received ['Farewell!'] instead of ('Welcome!',)"),
        (_lets_nobody_in, "answered 404 instead of 200"),
    ],
)
def test_a_wrong_turn_fails_loudly_and_names_the_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, story: Callable[[Stage], None], words: str
) -> None:
    monkeypatch.setattr(demo, "play_story", story)
    monkeypatch.setattr(demo, "_serving", _no_server)
    if story is _writes_to_nobody:
        monkeypatch.setattr(demo_stage, "PATIENCE", 0.1)
    shown = _play(monkeypatch, tmp_path)
    assert "\nThe demo went wrong: step 2: " in shown
    assert words in shown


@contextlib.contextmanager
def _no_server(environment: dict[str, str]) -> Iterator[str]:
    yield environment["BUFFETTSBOT_TRONSCAN_URL"]


def test_the_story_notices_what_the_product_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever pays 1 USDT less than the story says must not be let in."""
    pay = Stage.pay

    def less(stage: Stage, kind: str, amount: int, **more: Any) -> str:
        return pay(stage, kind, amount - 1, **more)

    def register(stage: Stage, chat_id: int, name: str) -> None:
        stage.admin("users", "add", str(chat_id), f"@{name.lower()}")

    monkeypatch.setattr(Stage, "pay", less)
    monkeypatch.setattr(Stage, "register", register)
    monkeypatch.setattr(demo, "_serving", _no_server)
    shown = _play(monkeypatch, tmp_path)
    assert "underpaid" in shown
    assert "step 4: buffettsbot verify" in shown


def test_a_server_that_does_not_start_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = demo._environment

    def without_wallet(*arguments: Any, **options: Any) -> dict[str, str]:
        return environment(*arguments, **options) | {"BUFFETTSBOT_WALLET": "nonsense"}

    monkeypatch.setattr(demo, "_environment", without_wallet)
    assert "the HTTP server did not start" in _play(monkeypatch, tmp_path)


def test_no_setting_of_the_host_reaches_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BUFFETTSBOT_API_TOKEN", "token")
    monkeypatch.setenv("SQL_ENGINE", "x")
    environment = demo._environment(tmp_path, "http://sandbox", colour=False)
    ours = {name for name in environment if name.startswith("BUFFETTSBOT_")}
    assert ours == {
        f"BUFFETTSBOT_{name}"
        for name in ("DATABASE_URL", "WALLET", "TRONSCAN_URL", "TRONGRID_URL", "ENV_FILE")
    } | {f"BUFFETTSBOT_{name}" for name in ("TELEGRAM_URL", "TELEGRAM_TOKEN", "GROUP_ID")}
    # Not even /etc/buffettsbot/buffettsbot.env of an installed host: a named file comes first.
    assert Path(environment["BUFFETTSBOT_ENV_FILE"]).read_text() == ""
    assert set(environment) - ours <= {"PATH", "LANG", "LC_ALL", "HOME", "COLUMNS", "NO_COLOR"}
