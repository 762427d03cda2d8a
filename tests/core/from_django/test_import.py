"""`db import-django`: the original moves in, once or again, and nothing that was paid is lost.

Both kinds of source, made by the original's own schema, and both kinds of target.
"""

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, Commands
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    broken,
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
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from buffettsbot.core.errors import Invalid, NotFound, Unavailable
from buffettsbot.core.from_django import source as django_source
from buffettsbot.core.from_django.bring import Imported, bring_all
from buffettsbot.core.from_django.merge import Membership, merged
from buffettsbot.core.from_django.opening import open_original
from buffettsbot.core.from_django.rows import NOBODY
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members import users
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Audit, Outbox, Payment, Plan, Subscription, TelegramUser

DATA = Path(__file__).parents[2] / "data" / "django"
MONTH = timedelta(days=30)
TABLES = (TelegramUser, Plan, Subscription, Payment, Outbox, Audit)


class Original:
    """The original's database, and what its code and its admins write there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        script = (DATA / f"{self.engine.dialect.name}.sql").read_text()
        for statement in script.split(";\n"):
            if statement.strip():
                self.run(statement)

    def run(self, statement: str, *many: dict[str, Any], **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), list(many) or values)

    def at(self, moment: datetime | None) -> Any:
        """A time as Django stores it: on SQLite without its zone, in UTC."""
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if self.is_sqlite and moment else moment

    def plan(self, period: str = "1 month", price: int = 50) -> None:
        self.run(
            "INSERT INTO subscription_service_plan (period, price) VALUES (:period, :price)",
            period=period,
            price=price,
        )

    def user(self, chat_id: Any, name: str | None = None, **fields: Any) -> None:
        self.users([{"chat_id": chat_id, "name": name or f"u{chat_id}"} | fields])

    def users(self, people: list[dict[str, Any]]) -> None:
        usual = {"first": "Ann", "last": None, "group": True, "joined": NOW - DAY, "staff": False}
        values = [usual | one for one in people]
        for one in values:
            one["joined"] = self.at(one["joined"])
        self.run(
            "INSERT INTO subscription_service_telegramuser VALUES "
            "('!', NULL, false, :chat_id, :name, :first, :last, :group, :joined, :staff)",
            *values,
        )

    def sale(self, transaction_hash: str, customer: Any, start: datetime, **fields: Any) -> None:
        self.sales([{"hash": transaction_hash, "customer": customer, "start": start} | fields])

    def sales(self, sold: list[dict[str, Any]]) -> None:
        """What was sold: ends after its days (30) unless told otherwise."""
        usual: dict[str, Any] = {"days": 30, "plan": "1 month", "end": ...}
        values = [usual | one for one in sold]
        for one in values:
            length = timedelta(days=one.pop("days"))
            end = one["start"] + length if one["end"] is ... else one["end"]
            one |= {"start": self.at(one["start"]), "end": self.at(end)}
            one["duration"] = length // timedelta(microseconds=1) if self.is_sqlite else length
        self.run(
            "INSERT INTO subscription_service_subscription VALUES (:hash, :start, :end, :duration, "
            ":customer, (SELECT id FROM subscription_service_plan WHERE period = :plan))",
            *values,
        )

    def renew(self, customer: int, transaction_hash: str, start: datetime) -> None:
        """As the original renews: the old row goes, and with it the days that were left."""
        self.run(
            "DELETE FROM subscription_service_subscription WHERE customer_id = :who", who=customer
        )
        self.sale(transaction_hash, customer, start)


@pytest.fixture
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Original]:
    """The original's database, empty: of the kind that the target is not, unless told."""
    kind = getattr(request, "param", None)
    if kind is None:
        target = make_url(request.getfixturevalue("database_url")).get_backend_name()
        kind = "postgresql" if target == "sqlite" else "sqlite"
    path = tmp_path / "original.sqlite3"
    url = f"sqlite:///{path}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    made = Original(url)
    yield made
    made.engine.dispose()


def bring(
    db: Database, original: Original, now: datetime = NOW, *, dry_run: bool = False
) -> Imported:
    with open_original(original.url) as opened:
        imported = bring_all(db, opened, actor="root", now=now, dry_run=dry_run)
    assert broken(db, now) == []
    return imported


def kinds(imported: Imported) -> Counter[str]:
    return Counter(one.kind for one in imported.odd)


def everything(db: Database) -> list[list[dict[str, Any]]]:
    return [[row.model_dump() for row in rows(db, table)] for table in TABLES]


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


def test_no_spelling_of_an_imported_hash_buys_again(db: Database, original: Original) -> None:
    original.plan()
    plain = [hash_of(n + 0xABCDEF000) for n in range(8)]
    spellings = [
        plain[0],
        plain[1].upper(),
        f"0x{plain[2]}",
        f"https://tronscan.org/#/transaction/{plain[3]}",
        f"  {plain[4]} ",
        f"{plain[5]}&visible=true",
        f"tx {plain[6]}.",
        "%" + plain[7].encode().hex("%"),
    ]
    for n, spelling in enumerate(spellings):
        original.user(n + 1)
        original.sale(spelling, n + 1, NOW - (60 if n % 2 else 5) * DAY)
    imported = bring(db, original)
    assert kinds(imported)["hash-rewritten"] == 7
    person(db, 99, "thief")
    for one in plain:
        assert buy(db, one, who=99).verdict.reason == "already-used"
    assert {m.transaction_hash for m in rows(db, Subscription)} == set(plain)


def test_what_is_no_hash_is_kept_as_it_is(db: Database, original: Original) -> None:
    original.plan()
    for n, spelled in enumerate(("0x", "cash, 50$", "grant-1", "")):
        original.user(n + 1)
        original.sale(spelled, n + 1, NOW - DAY)
    imported = bring(db, original)
    assert kinds(imported) == {"bad-hash": 4}
    assert {p.transaction_hash for p in ledger(db)} == {
        "0x",
        "cash, 50$",
        "import-3-grant-1",
        "import-4-",
    }
    assert len(rows(db, Subscription)) == 4


def test_a_hash_in_two_spellings_is_whose_it_was_first(db: Database, original: Original) -> None:
    original.plan()
    original.user(1)
    original.user(2)
    original.sale(hash_of(5).upper() + " ", 2, NOW - 2 * DAY)
    original.sale(hash_of(5), 1, NOW - 3 * DAY)
    imported = bring(db, original)
    (odd,) = [one for one in imported.odd if one.kind == "hash-shared"]
    assert odd.detail == "user 2; before user 1"
    assert [(m.customer_id, m.transaction_hash) for m in rows(db, Subscription)] == [
        (1, hash_of(5))
    ]
    assert not bring(db, original).is_news


def test_odd_people_are_named_and_none_stops_the_import(db: Database, original: Original) -> None:
    original.user(1, "Ann", joined=NOW - 9 * DAY)
    original.user(2, "ann", joined=NOW - DAY)
    original.user(3, "@ANN", joined=NOW - 5 * DAY)
    original.user(4, "@bob", first=None)
    original.user(5, "два слова", group=None)
    original.user(0, "zero")
    original.user(6, "taken")
    original.user(8, "long", first="x" * 200)
    person(db, 60, "TAKEN")
    rehearsal = bring(db, original, dry_run=True)
    imported = bring(db, original)
    assert rehearsal == replace(imported, dry_run=True)
    assert kinds(imported) == {
        "bad-chat-id": 1,
        "bad-username": 1,
        "username-rewritten": 2,
        "username-shared": 2,
        "username-taken": 1,
        "no-group-flag": 1,
        "long-name": 1,
    }
    assert {u.chat_id: u.telegram_username for u in rows(db, TelegramUser)} == {
        1: None,
        2: "ann",
        3: None,
        4: "bob",
        5: None,
        6: None,
        8: "long",
        60: "TAKEN",
    }
    assert imported.users == {"read": 8, "new": 7, "known": 0, "left_out": 1}
    again = bring(db, original)
    assert not again.is_news
    assert kinds(again) == kinds(imported)


def test_odd_plans_are_named(db: Database, original: Original) -> None:
    for period, price in (
        ("1 month", 0),
        ("12 months", 300),
        ("1 year", 400),
        ("2 days", 5),
        ("3 months", 2_000_000),
        ("6 months", 120),
    ):
        original.plan(period, price)
    shop(db, half=99)
    imported = bring(db, original)
    assert kinds(imported) == {
        "bad-price": 2,
        "plan-shared": 1,
        "unknown-period": 1,
        "plan-changed-here": 1,
    }
    assert {(p.period, p.price, p.is_active) for p in plans.list_plans(db)} == {
        ("1 month", 1, False),
        ("3 months", 1_000_000, False),
        ("6 months", 99, True),
        ("1 year", 300, True),
    }


def test_odd_subscriptions_are_burnt_whatever_else_is_wrong(
    db: Database, original: Original
) -> None:
    original.plan("2 days", 5)
    for chat_id in (1, 2, 3, 4):
        original.user(chat_id)
    original.sale(hash_of(1), None, NOW - DAY, plan=None)
    original.sale(hash_of(2), 1, NOW - DAY, plan="2 days", days=2)
    original.sale(hash_of(3), 2, NOW - DAY, plan=None, days=90)
    original.sale(hash_of(4), 3, NOW - DAY, end=None)
    original.sale(hash_of(5), 4, NOW - DAY, end=NOW - 2 * DAY)
    imported = bring(db, original)
    assert kinds(imported) == {
        "no-customer": 1,
        "unknown-period": 1,
        "no-plan": 1,
        "plan-from-length": 4,
        "bad-dates": 1,
    }
    members = {m.customer_id: m for m in rows(db, Subscription)}
    assert set(members) == {1, 2, 3}
    assert members[1].plan_id is None
    assert members[1].end_date == NOW + DAY
    quarter = next(plan for plan in plans.list_plans(db) if plan.period == "3 months")
    assert (members[2].plan_id, quarter.is_active) == (quarter.id, False)
    assert members[3].end_date == NOW + 29 * DAY
    assert {p.transaction_hash: p.customer_id for p in ledger(db)} == {
        hash_of(1): NOBODY,
        hash_of(2): 1,
        hash_of(3): 2,
        hash_of(4): 3,
        hash_of(5): 4,
    }
    shop(db, year=90)
    for n in range(1, 6):
        assert buy(db, hash_of(n), who=4, period="1 year", usdt=500).verdict.verdict == "refused"
    assert not bring(db, original).is_news


def test_what_sqlite_lets_through_stops_nothing(postgresql_url: str, tmp_path: Path) -> None:
    original = Original(f"sqlite:///{tmp_path / 'original.sqlite3'}")
    original.plan()
    original.user("seven", "x")
    original.user(12.5, "y")
    original.user(10**18, "z")
    original.user(1, "nul\0", first=b"\xff\xfe", last="\ud83d".encode("utf-8", "surrogatepass"))
    original.run("UPDATE subscription_service_telegramuser SET date_joined = 'soon'")
    original.sale(hash_of(1), "seven", NOW - DAY)
    original.sale(hash_of(2), 555, NOW - DAY)
    original.run("UPDATE subscription_service_subscription SET duration = 'x'")
    db = Database(postgresql_url)
    imported = bring(db, original)
    assert kinds(imported) == {
        "bad-chat-id": 3,
        "username-rewritten": 1,
        "bad-join-date": 1,
        "no-customer": 1,
        "unknown-customer": 1,
        "paid-not-in-group": 1,
    }
    assert user(db, 1).telegram_username == "nul"
    assert membership(db, 555).end_date == NOW + 29 * DAY
    db.close()
    original.engine.dispose()


def test_times_are_utc_whatever_zone_they_are_written_in(postgresql_url: str, db: Database) -> None:
    original = Original(postgresql_url)
    original.run(
        "ALTER TABLE subscription_service_telegramuser ALTER date_joined TYPE timestamp "
        "USING date_joined AT TIME ZONE 'UTC'"
    )
    original.run("ALTER ROLE CURRENT_USER SET timezone TO 'Asia/Kolkata'")
    try:
        original.plan()
        original.user(1)
        original.run(
            "UPDATE subscription_service_telegramuser SET date_joined = '2026-01-02 03:04:05'"
        )
        original.sale(hash_of(1), 1, NOW)
        imported = bring(db, original)
    finally:
        original.run("ALTER ROLE CURRENT_USER RESET timezone")
        original.engine.dispose()
    assert [one.row for one in imported.odd] == ["subscription_service_telegramuser.date_joined"]
    assert user(db, 1).date_joined.isoformat() == "2026-01-02T03:04:05+00:00"
    assert membership(db, 1).start_date == NOW


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


def crowd(original: Original, count: int) -> None:
    """So many people, each a member."""
    original.plan()
    numbers = range(1, count + 1)
    original.users(
        [{"chat_id": n, "name": f"u{n}", "joined": NOW - timedelta(minutes=n)} for n in numbers]
    )
    original.sales(
        [{"hash": hash_of(n + 1), "customer": n, "start": NOW - n * DAY / 60} for n in numbers]
    )


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


def test_the_original_is_only_read(db: Database, original: Original) -> None:
    original.plan()
    with open_original(original.url) as opened, pytest.raises(DBAPIError):
        opened.connection.execute(text("DELETE FROM subscription_service_plan"))
    if original.is_sqlite:
        path = Path(original.url.removeprefix("sqlite:///"))
        before = hashlib.sha256(path.read_bytes()).digest()
        bring(db, original)
        assert hashlib.sha256(path.read_bytes()).digest() == before


def test_what_is_not_the_original_is_refused_in_a_sentence(
    postgresql_url: str, tmp_path: Path
) -> None:
    text_file, empty = tmp_path / "notes.txt", tmp_path / "empty.db"
    text_file.write_text("no database at all, only words " * 50)
    empty.touch()
    secret = make_url(postgresql_url).set(username="ann", password="hush")
    nowhere = secret.set(host="127.0.0.1", port=1).render_as_string(hide_password=False)
    cases: list[tuple[str, type[Exception], str]] = [
        (str(tmp_path / "nothing.db"), NotFound, "no file"),
        (str(text_file), Invalid, "not the original's database"),
        (str(empty), Invalid, "subscription_service_telegramuser is missing"),
        (postgresql_url, Invalid, "subscription_service_telegramuser is missing"),
        ("mysql://ann:hush@host/db", Invalid, "postgresql://"),
        ("postgres://ann:hush@host:port/db", Invalid, "postgresql://"),
        (nowhere, Unavailable, "does not answer"),
    ]
    for where, error, words in cases:
        with pytest.raises(error, match=words) as raised, open_original(where):
            pass
        assert "hush" not in str(raised.value)
    half = Original(f"sqlite:///{tmp_path / 'half.sqlite3'}")
    half.run("ALTER TABLE subscription_service_subscription DROP COLUMN duration")
    with pytest.raises(Invalid, match="has no duration"), open_original(half.url):
        pass
    half.engine.dispose()


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


def day(number: int) -> datetime:
    return NOW + number * DAY


@pytest.mark.parametrize(
    ("standing", "start", "end", "expected"),
    [
        (None, 0, 30, 30),
        ({"start": -20, "end": 10}, 0, 30, 30),  # the original's renewal: its own end
        ({"start": -20, "end": 10}, -5, 5, 10),  # never back
        ({"start": -40, "end": -10}, 0, 30, 30),  # ended long before
        ({"start": 0, "end": 30, "imported": False}, -20, 10, 40),  # bought here meanwhile
        ({"start": -5, "end": 30, "imported": False}, 0, 30, 60),  # and there once more
        ({"start": 0, "end": 60, "imported": False, "renewed": True}, -5, 25, 90),
        ({"start": 0, "end": 30, "imported": False}, -40, -10, 30),  # over before it began here
        ({"start": -20, "end": 40, "expired": 1, "imported": False}, 2, 32, 32),  # revoked
        ({"start": -20, "end": 1, "expired": 1}, 0, 30, 30),  # expired here, renewed there
    ],
)
def test_paid_days_are_never_lost(
    standing: dict[str, Any] | None, start: int, end: int, expected: int
) -> None:
    bought = Membership("there", 1, day(start), day(end), 1)
    here = None
    if standing is not None:
        ended = standing.get("expired")
        here = Membership(
            "here",
            1,
            day(standing["start"]),
            day(standing["end"]),
            1,
            None if ended is None else day(ended),
            standing.get("imported", True),
            standing.get("renewed", False),
        )
    result = merged(here, bought)
    assert result.end_date == day(expected)
    assert result is here or result.expired_at is None
