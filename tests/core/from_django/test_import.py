"""`db import-django`: the original moves in, once or again, and nothing that was paid is lost.

Both kinds of source, made by the original's own schema, and both kinds of target.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import ROOT, Commands
from django_original import MONTH, Original, bring, crowd, everything, kinds
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    buy,
    clean_env,
    hash_of,
    ledger,
    membership,
    payments_chain,
    person,
    queued,
    rows,
    shop,
    user,
)

from buffettsbot.core.from_django import source as django_source
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members import users
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Audit, Outbox, Plan, Subscription, TelegramUser


@pytest.mark.parametrize("original", ["sqlite", "postgresql"], indirect=True)
def test_everything_arrives_and_the_second_import_changes_nothing(
    db: Database, original: Original
) -> None:
    original.plan("1 month", 50)
    original.plan("1 year", 400)
    original.user(1, "boss", staff=True, joined=NOW - 9 * DAY)
    original.user(7_000_000_001, "ann", first="Анна", last="Б")
    original.user(9, "gone", group=False)
    original.sale(hash_of(1), 7_000_000_001, NOW - 10 * DAY)
    original.sale(hash_of(2), 9, NOW - 40 * DAY)
    rehearsal = bring(db, original, dry_run=True)
    assert not any(everything(db))
    first = bring(db, original)
    assert rehearsal == replace(first, dry_run=True)
    assert first.is_news
    assert first.odd == []
    ann = user(db, 7_000_000_001)
    assert (ann.telegram_username, ann.first_name, ann.last_name) == ("ann", "Анна", "Б")
    assert (ann.at_private_group, ann.date_joined, ann.is_staff) == (True, NOW - DAY, False)
    assert user(db, 1).is_staff
    assert {(p.period, p.price, p.is_active) for p in rows(db, Plan)} == {
        ("1 month", 50, True),
        ("1 year", 400, True),
    }
    member = membership(db, ann.chat_id)
    assert (member.start_date, member.end_date) == (NOW - 10 * DAY, NOW + 20 * DAY)
    assert (member.duration, member.expired_at) == (30 * 86400, None)
    (entry,) = ledger(db, hash_of(1))
    assert (entry.status, entry.reason, entry.price) == ("accepted", "accepted", 50)
    assert (entry.claimed_at, entry.decided_at) == (member.start_date, member.start_date)
    assert (entry.period_start, entry.period_end) == (member.start_date, member.end_date)
    assert entry.evidence == [{"source": "imported", "why": f"sold by the original: {hash_of(1)}"}]
    assert membership(db, 9).expired_at == NOW - 10 * DAY
    (audit,) = rows(db, Audit)
    assert (audit.actor, audit.action) == ("root", "db import-django")
    before = everything(db)
    again = bring(db, original, NOW + DAY)
    assert not again.is_news
    assert again.subscriptions["known"] == 2
    assert everything(db) == before
    assert queued(db) == []


def test_the_original_went_on_for_a_day(db: Database, original: Original) -> None:
    original.plan()
    for chat_id in range(1, 5):
        original.user(chat_id)
        original.sale(hash_of(chat_id), chat_id, NOW - 20 * DAY)
    bring(db, original)
    users.set_staff(db, 1, is_staff=True)
    users.register(db, chat_id=1, telegram_username="renamed", now=NOW)
    buy(db, hash_of(102), who=2)
    buy(db, hash_of(103), who=3)
    remind(db, now=NOW + 9 * DAY, days=[7])
    later = NOW + DAY
    original.user(5, group=False)
    original.sale(hash_of(5), 5, later)
    original.renew(1, hash_of(201), later)
    original.renew(3, hash_of(203), later)
    imported = bring(db, original, later)
    assert imported.subscriptions == {
        "read": 5,
        "new": 1,
        "renewed": 2,
        "ended": 0,
        "covered": 0,
        "burnt": 0,
        "known": 2,
        "left_out": 0,
    }
    assert kinds(imported) == {"changed-here": 1, "paid-not-in-group": 1}
    assert [user(db, one).at_private_group for one in (1, 5)] == [True, False]
    assert user(db, 1).telegram_username == "renamed"
    assert user(db, 1).is_staff
    ends = {m.customer_id: (m.transaction_hash, m.end_date) for m in rows(db, Subscription)}
    assert ends == {
        1: (hash_of(201), later + MONTH),
        2: (hash_of(102), NOW + 40 * DAY),
        3: (hash_of(103), NOW + 70 * DAY),
        4: (hash_of(4), NOW + 10 * DAY),
        5: (hash_of(5), later + MONTH),
    }
    waiting = {o.chat_id for o in rows(db, Outbox) if o.kind == "reminder" and o.status == "queued"}
    assert waiting == {4}
    assert not bring(db, original, later).is_news


def test_a_payment_that_has_bought_brings_no_days_again(db: Database, original: Original) -> None:
    original.plan()
    original.user(1)
    original.sale(hash_of(1), 1, NOW - 40 * DAY)
    bring(db, original)
    original.renew(1, f"0x{hash_of(1)}", NOW)
    imported = bring(db, original)
    assert kinds(imported)["sold-again"] == 1
    assert membership(db, 1).end_date == NOW - 10 * DAY


def test_what_was_bought_here_before_the_first_import_is_added(
    db: Database, original: Original
) -> None:
    original.plan()
    original.user(7)
    original.sale(hash_of(1), 7, NOW - 20 * DAY)
    shop(db)
    person(db)
    buy(db, hash_of(2))
    bring(db, original)
    member = membership(db)
    assert (member.transaction_hash, member.end_date) == (hash_of(2), NOW + 40 * DAY)


def test_hashes_that_are_known_here_already(db: Database, original: Original) -> None:
    original.plan()
    shop(db)
    for chat_id in (1, 2, 3):
        original.user(chat_id)
        original.sale(hash_of(chat_id), chat_id, NOW - 2 * DAY)
        person(db, chat_id, f"u{chat_id}")
    person(db, 9, "other")
    buy(db, hash_of(1), who=9)
    stranger = payments_chain()
    for at in (NOW, NOW + 30 * DAY):  # never found: refused, and burnt by the import all the same
        claim(
            db,
            stranger,
            EXPECTATION,
            person=2,
            period="1 month",
            transaction_hash=hash_of(2),
            now=at,
        )
    claim(db, None, EXPECTATION, person=3, period="1 month", transaction_hash=hash_of(3), now=NOW)
    assert [p.status for p in ledger(db)] == ["accepted", "refused", "pending"]
    imported = bring(db, original)
    assert kinds(imported) == {"hash-used-here": 1, "hash-open-here": 1, "changed-here": 3}
    assert [p.status for p in ledger(db)] == ["accepted", "accepted", "pending"]
    assert {m.customer_id for m in rows(db, Subscription)} == {2, 9}
    assert not bring(db, original).is_news


def test_only_who_is_said_to_be_in_the_group_is_left_to_expire(
    db: Database, original: Original
) -> None:
    original.plan()
    for chat_id in range(1, 31):
        original.user(chat_id, group=chat_id <= 2)
        original.sale(hash_of(chat_id), chat_id, NOW - 31 * DAY)
    imported = bring(db, original)
    assert imported.subscriptions["ended"] == 30
    assert kinds(imported) == {"ended-in-group": 2}
    report = expire(db, now=NOW, guard=0.2, group=True)
    assert report.done == 2
    assert sorted(o.chat_id for o in rows(db, Outbox) if o.kind == "remove") == [1, 2]
    assert not bring(db, original).is_news
    assert not user(db, 1).at_private_group


def test_pages_know_of_each_other(
    db: Database, original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(django_source, "PAGE", 7)
    crowd(original, 60)
    original.user(1000, "U5", joined=NOW - 900 * DAY)
    original.sale(hash_of(6).upper() + "#", 1000, NOW)
    rehearsal = bring(db, original, dry_run=True)
    imported = bring(db, original)
    assert rehearsal == replace(imported, dry_run=True)
    assert kinds(imported)["username-shared"] == 1
    assert kinds(imported)["hash-shared"] == 1
    assert len(rows(db, Subscription)) == 60


KILLED = """
import os, signal
from datetime import datetime
from buffettsbot.core.from_django import sales, source
from buffettsbot.core.storage.database import Database
from buffettsbot.core.from_django.bring import bring_all
from buffettsbot.core.from_django.opening import open_original

source.PAGE = 50
write, pages = sales._Page.write, []

def write_and_die(self, *arguments):
    write(self, *arguments)
    pages.append(1)
    if len(pages) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

sales._Page.write = write_and_die
with open_original({original!r}) as original:
    bring_all(Database({db!r}), original, actor="root", now=datetime.fromisoformat({now!r}))
"""


def test_a_killed_import_is_simply_run_again(
    db: Database, database_url: str, original: Original
) -> None:
    crowd(original, 300)
    script = KILLED.format(original=original.url, db=database_url, now=NOW.isoformat())
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_env(database_url), cwd=ROOT, timeout=120
    )
    assert done.returncode == -9
    assert len(rows(db, TelegramUser)) == 300
    assert len(rows(db, Subscription)) == len(ledger(db)) == 100
    imported = bring(db, original)
    assert imported.subscriptions["new"] == 200
    assert len(rows(db, Subscription)) == len(ledger(db)) == 300
    assert len(rows(db, Audit)) == 1 + 1  # of the run that died, and of this one
    assert not bring(db, original).is_news


def test_the_command_rehearses_asks_and_reports(
    database_url: str, db: Database, original: Original
) -> None:
    crowd(original, 12)
    original.user(50, "@ops", group=None, joined=NOW)
    where = original.url.removeprefix("sqlite:///").replace("postgresql+psycopg", "postgres")
    run = Commands(database_url)
    shown = run("db", "import-django", where, "--dry-run")
    assert shown.code == 0
    assert "13 read: 13 new" in shown.stdout
    assert "nothing was changed" in shown.stderr
    run.inside("db", "import-django", where, stdin="n\n")
    run.inside("db", "import-django", where)
    assert rows(db, TelegramUser) == []
    screen = run.on_terminal("db", "import-django", where, answers="y\n")
    assert screen.code == 0
    assert screen.widest <= 80
    assert "username-rewritten" in screen.text
    assert len(rows(db, TelegramUser)) == 13
    told = run.inside("db", "import-django", where, "--yes", "--json").json()
    assert told["changed"] is False
    assert told["users"] == {"read": 13, "new": 0, "known": 13, "left_out": 0}
    assert {"kind": "username-rewritten", "row": "user 50", "detail": "'@ops'"} in told["odd"]
    again = run.inside("db", "import-django", where)
    assert again.code == 0
    assert "Everything is here already" in again.stderr


def test_a_database_that_is_not_upgraded_is_refused(
    empty_database_url: str, tmp_path: Path
) -> None:
    original = Original(f"sqlite:///{tmp_path / 'original.sqlite3'}")
    original.engine.dispose()
    result = Commands(empty_database_url).inside(
        "db", "import-django", str(tmp_path / "original.sqlite3"), "--yes"
    )
    if empty_database_url.startswith("sqlite"):
        assert result.code == 0  # a fresh SQLite file is prepared on the spot
    else:
        result.refused(4, "db upgrade")
