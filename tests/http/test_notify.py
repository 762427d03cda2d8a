"""What systemd hears of the service, over a real socket: ready, alive, stopping."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import clean_env
from serving import serving

from buffettsbot.core.storage.database import Database
from buffettsbot.http.notify import Watchdog, notify, watchdog_seconds


class Systemd:
    """The socket that systemd listens on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(30)

    def heard(self) -> str:
        """Return the next word, which must come."""
        return self.socket.recv(100).decode()

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(100)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(30)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """A listening systemd, on a path or on an abstract socket."""
    with tempfile.TemporaryDirectory(prefix="bb-") as short:  # such paths may have 107 characters
        abstract = f"@buffettsbot-test-{os.getpid()}"
        listening = Systemd(f"{short}/notify" if request.param == "path" else abstract)
        monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
        yield listening
        listening.socket.close()


def test_a_word_reaches_systemd(systemd: Systemd) -> None:
    notify("READY=1")
    assert systemd.heard() == "READY=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert watchdog_seconds() == 60
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


def test_it_is_fed_only_while_the_service_is_well(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    well = [True]
    watchdog = Watchdog(lambda: well[0])
    request.addfinalizer(watchdog.stop)
    assert [systemd.heard() for _ in range(3)] == ["WATCHDOG=1"] * 3
    well[0] = False
    assert any(systemd.silent(0.5) for _ in range(5))
    well[0] = True
    assert systemd.heard() == "WATCHDOG=1"
    watchdog.stop()
    assert any(systemd.silent(0.5) for _ in range(5))


def test_a_database_that_is_away_does_not_answer(db: Database, tmp_path: Path) -> None:
    assert db.answers()
    away = Database(f"sqlite:///{tmp_path / 'nobody' / 'empty.db'}")
    assert not away.answers()
    away.close()


def test_the_service_tells_that_it_is_ready_alive_and_stopping(
    sqlite_url: str, systemd: Systemd
) -> None:
    env = clean_env(sqlite_url)
    env |= {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "60000000"}
    with serving(env) as service:
        assert systemd.heard() == "READY=1"
        assert systemd.heard() == "WATCHDOG=1"
        assert service.stop() == 0
        assert systemd.heard() == "STOPPING=1"
