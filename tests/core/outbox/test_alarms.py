"""A unit of systemd that has failed: the staff are told why, and not each minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from commands import Commands, Sandbox, commands, open_sandbox
from helpers import queued, rows, staff

from buffettsbot.core.outbox.staff import raise_alarm
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox

NOW = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
TOKEN = "123456:secret-token"
UNIT = "buffettsbot-pass@settle.service"


def test_every_admin_is_told_once_an_hour_of_each_unit(db: Database) -> None:
    staff(db, 1, 2)
    for minutes in (0, 1, 54):
        raise_alarm(db, unit=UNIT, error="broken", now=NOW + timedelta(minutes=minutes))
    assert queued(db) == ["pass-failed", "pass-failed"]
    raise_alarm(db, unit="buffettsbot-http.service", error="broken", now=NOW)
    assert len(queued(db)) == 4
    raise_alarm(db, unit=UNIT, error="still broken", now=NOW + timedelta(minutes=55))
    assert len(queued(db, 1)) == 3
    raise_alarm(db, unit=UNIT, error="broken", now=NOW + timedelta(days=1))
    assert len(queued(db, 1)) == 4
    assert rows(db, Outbox)[0].payload == {"pass": UNIT, "error": "broken"}


def test_without_staff_nobody_is_told(db: Database) -> None:
    raise_alarm(db, unit=UNIT, error="broken", now=NOW)
    assert queued(db) == []


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        opened.http.post("/_sandbox/telegram", json={"token": TOKEN}).raise_for_status()
        yield opened


def test_the_command_tells_them_at_once_what_stdin_says(
    database_url: str, db: Database, sandbox: Sandbox
) -> None:
    staff(db, 1)
    run = commands(database_url, sandbox, telegram_url=sandbox.url, telegram_token=TOKEN)
    done = run("pass", "failed", UNIT, "--json", stdin="error: It <broke>.\n(exit-code, 4)\n")
    assert (done.code, done.json()["done"]) == (0, 1)
    assert run("pass", "failed", UNIT, stdin="again").code == 0
    sent = sandbox.http.get("/_sandbox/telegram/sent").json()
    assert [one["chat_id"] for one in sent] == [1]
    assert UNIT in sent[0]["text"]
    assert "error: It &lt;broke&gt;. (exit-code, 4)" in sent[0]["text"]


def test_what_cannot_be_sent_stays_queued(database_url: str, db: Database) -> None:
    staff(db, 1)
    done = Commands(database_url)("pass", "failed", UNIT, stdin="error: broken")
    done.refused(4, "BUFFETTSBOT_TELEGRAM_TOKEN is not set")
    assert queued(db) == ["pass-failed"]
