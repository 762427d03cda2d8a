"""`db check`: sound data are found sound, and each broken promise names its rows."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    buy,
    fake_chain,
    hash_of,
    ledger,
    paid,
    person,
    rows,
    shop,
    staff,
)
from sqlalchemy import delete, insert, null, text, update

from buffettsbot.core.health.invariants import BrokenPromise, find_broken
from buffettsbot.core.health.promises import INVARIANTS
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.decisions import decide_by_hand
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import AUDIT, OUTBOX, PAYMENT, SUBSCRIPTION, Outbox

LATER = NOW + 31 * DAY
ANN, BOB = hash_of(7), hash_of(8)


def story(db: Database) -> None:
    """Sales, a renewal, an expiry with its notices, refusals, decisions by hand, and a grant."""
    staff(db, 900)
    shop(db, month=50, year=400)
    for number, name in ((7, "ann"), (8, "bob"), (9, "cleo"), (10, "dan"), (11, "eve")):
        person(db, number, name)
    buy(db, ANN, now=NOW)
    buy(db, hash_of(70), now=NOW + DAY, period="1 year", usdt=400)
    buy(db, BOB, who=8, now=NOW)
    buy(db, BOB, who=9, now=NOW)  # what is another's
    buy(db, hash_of(90), who=9, usdt=1)  # too little
    for number in (100, 101, 102):
        wanted: Any = {"person": 10, "period": "1 month", "transaction_hash": hash_of(number)}
        claim(db, fake_chain({}), EXPECTATION, **wanted, now=LATER)
    for number, accept in ((100, True), (101, False)):
        decide_by_hand(db, transaction_hash=hash_of(number), accept=accept, actor="olga", now=LATER)
    remind(db, now=NOW + 29 * DAY, days=[7, 3, 1])
    expire(db, now=LATER, guard=1, group=True)
    granted(db, 11)
    with db.begin() as session:
        session.execute(update(OUTBOX).values(status="sent", sent_at=LATER))


def granted(db: Database, chat_id: int) -> None:
    """A membership without a payment, and its line in the audit log."""
    row = {"plan_id": None, "start_date": NOW, "end_date": LATER + DAY, "duration": 32 * 86400}
    line = {"at": NOW, "actor": "olga", "action": "subscribers grant", "detail": "a friend"}
    with db.begin() as session:
        session.execute(
            insert(SUBSCRIPTION),
            row | {"customer_id": chat_id, "transaction_hash": f"grant-{chat_id}"},
        )
        session.execute(insert(AUDIT), line | {"subject": str(chat_id)})


@pytest.fixture
def sound(db: Database) -> Database:
    """The database after the story."""
    story(db)
    return db


def found(db: Database, now: Any = LATER) -> list[BrokenPromise]:
    return list(find_broken(db, now=now))


def test_what_the_program_itself_wrote_is_sound(sound: Database) -> None:
    assert found(sound) == []
    buy(sound, hash_of(80), who=8, now=LATER + MINUTE)  # after the end: a gap, not an overlap
    chain = fake_chain({hash_of(102): paid(hash_of(102), at=LATER)})
    settle(sound, chain, EXPECTATION, now=LATER + 20 * MINUTE)
    assert found(sound, LATER + timedelta(minutes=30)) == []
    assert {entry.status for entry in ledger(sound)} == {"accepted", "refused"}


def loosened(db: Database, table: str) -> None:
    """Take every constraint and index off a table, as if this database had never had them."""
    for statement in (
        f"CREATE TABLE loose AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE loose RENAME TO {table}",
    ):
        with db.begin() as session:
            session.execute(text(statement))


def payment(number: int = 7, **values: Any) -> Any:
    return update(PAYMENT).where(PAYMENT.c.transaction_hash == hash_of(number)).values(**values)


def subscription(chat_id: int, **values: Any) -> Any:
    return update(SUBSCRIPTION).where(SUBSCRIPTION.c.customer_id == chat_id).values(**values)


def message(kind: str, to: int, **values: Any) -> Any:
    return update(OUTBOX).where(OUTBOX.c.kind == kind, OUTBOX.c.chat_id == to).values(**values)


UPPER = "AB" * 32
BREAKERS: dict[str, tuple[str, Callable[[], list[Any]], str]] = {
    "payment-without-period": ("payment", lambda: [payment(70, period_start=None)], hash_of(70)),
    "payment-without-amount": ("payment", lambda: [payment(amount=None)], ANN),
    "payment-contradicts-itself": ("payment", lambda: [payment(90, decided_at=None)], hash_of(90)),
    "hash-twice": (
        "payment",
        lambda: [payment(90, status="held", decided_at=None, transaction_hash=f"0x{ANN.upper()}")],
        ANN,
    ),
    "hash-misspelt": ("payment", lambda: [payment(90, transaction_hash=UPPER)], UPPER),
    "payment-overdue": (
        "",
        lambda: [payment(102, next_check_at=LATER - timedelta(minutes=61))],
        hash_of(102),
    ),
    "periods-overlap": ("", lambda: [payment(70, period_start=NOW + 29 * DAY)], hash_of(70)),
    "paid-but-shorter": ("", lambda: [subscription(7, end_date=LATER + DAY)], "7"),
    "longer-than-paid": ("", lambda: [subscription(7, end_date=LATER + 900 * DAY)], "7"),
    "hash-unknown": ("", lambda: [subscription(7, transaction_hash="grant-7")], "7"),
    "customer-twice": (
        "subscription",
        lambda: [subscription(8, customer_id=7, expired_at=LATER)],
        "7",
    ),
    "expired-early": ("", lambda: [subscription(7, expired_at=LATER)], "7"),
    "expiry-overdue": (
        "",
        lambda: [subscription(8, expired_at=None, end_date=LATER - timedelta(hours=25))],
        "8",
    ),
    "effect-overdue": (
        "",
        lambda: [message("remove", 8, status="queued", not_before=LATER - timedelta(hours=4))],
        "remove",
    ),
    "paid-but-removed": (
        "",
        lambda: [message("remove", 8, status="queued", chat_id=7)],
        "remove",
    ),
    "sent-but-when": ("", lambda: [message("remove", 8, sent_at=None)], "remove"),
}
# What else such a row breaks.
ALSO = {
    "payment-without-period": {"guarantee-missing"},
    "payment-without-amount": {"guarantee-missing"},
    "payment-contradicts-itself": {"guarantee-missing"},
    "hash-twice": {"guarantee-missing", "hash-misspelt"},
    "hash-misspelt": {"guarantee-missing"},
    "longer-than-paid": set(),
    "paid-but-shorter": set(),
    "hash-unknown": {"longer-than-paid"},
    "customer-twice": {"hash-unknown", "paid-but-shorter"},
    "expiry-overdue": {"paid-but-shorter"},
}


def test_every_invariant_has_a_test() -> None:
    assert set(BREAKERS) == {invariant.name for invariant in INVARIANTS}


@pytest.mark.parametrize("name", BREAKERS)
def test_a_broken_promise_names_its_row_and_nothing_else(sound: Database, name: str) -> None:
    table, statements, row = BREAKERS[name]
    if row == "remove":
        (row,) = [str(o.id) for o in rows(sound, Outbox) if o.kind == "remove"]
    if table:
        loosened(sound, table)
    with sound.begin() as session:
        for statement in statements():
            session.execute(statement)
    broken = found(sound)
    assert [finding.row for finding in broken if finding.invariant == name] == [row]
    assert {finding.invariant for finding in broken} - {name} <= ALSO.get(name, set())


# As an import writes it: accepted, though nobody here ever tried it.
IMPORTED: dict[str, Any] = {
    "attempts": 0,
    "amount": None,
    "evidence": [{"source": "imported", "why": "sold by the original"}],
}
HOUR = timedelta(hours=1)
# Every other way to break one of them; and, without a row, what comes close and is sound.
OTHERWISE: list[tuple[str, str, Callable[[], list[Any]], str | None]] = [
    ("payment-without-period", "payment", lambda: [payment(70, period_end=None)], hash_of(70)),
    ("payment-without-period", "payment", lambda: [payment(70, decided_at=None)], hash_of(70)),
    (
        "payment-without-period",
        "",
        lambda: [payment(period_start=NOW, period_end=NOW)],
        ANN,
    ),
    (
        "payment-without-period",
        "",
        lambda: [payment(period_end=NOW, period_start=NOW, **IMPORTED)],
        None,
    ),
    ("payment-without-amount", "", lambda: [payment(amount=0)], ANN),
    ("payment-without-amount", "", lambda: [payment(amount=1)], None),
    ("payment-without-amount", "", lambda: [payment(amount=None, evidence=null())], None),
    ("payment-without-amount", "", lambda: [payment(**IMPORTED)], None),
    ("payment-contradicts-itself", "", lambda: [payment(102, decided_at=NOW)], hash_of(102)),
    ("payment-contradicts-itself", "", lambda: [payment(90, period_end=NOW)], hash_of(90)),
    ("payment-contradicts-itself", "", lambda: [payment(90, next_check_at=NOW)], hash_of(90)),
    (
        "payment-contradicts-itself",
        "payment",
        lambda: [payment(102, next_check_at=None)],
        hash_of(102),
    ),
    ("payment-contradicts-itself", "", lambda: [held(102)], None),
    ("hash-twice", "payment", lambda: [payment(90, transaction_hash=f"0x{ANN}")], None),
    (
        "hash-twice",
        "",
        lambda: [
            payment(100, transaction_hash=f"https://tronscan.org/#/{ANN}", **IMPORTED),
        ],
        None,
    ),
    (
        "hash-misspelt",
        "",
        lambda: [payment(100, transaction_hash="0xAB", **IMPORTED)],
        None,
    ),
    (
        "hash-misspelt",
        "",
        lambda: [payment(90, transaction_hash="0x" + "ab" * 32)],
        "0x" + 32 * "ab",
    ),
    (
        "payment-overdue",
        "",
        lambda: [payment(102, next_check_at=LATER - HOUR + MINUTE)],
        None,
    ),
    ("payment-overdue", "", lambda: [held(102), payment(102, next_check_at=NOW)], None),
    ("periods-overlap", "", lambda: [payment(70, period_start=NOW + 30 * DAY)], None),
    (
        "periods-overlap",
        "",
        lambda: [payment(70, period_start=NOW, **IMPORTED)],
        None,
    ),
    ("periods-overlap", "", lambda: [payment(90, period_start=NOW, period_end=LATER)], None),
    ("periods-overlap", "", lambda: [payment(70, period_start=NOW), revoked(7)], None),
    ("paid-but-shorter", "", lambda: [delete(SUBSCRIPTION).where(of(8))], "8"),
    (
        "paid-but-shorter",
        "",
        lambda: [delete(SUBSCRIPTION).where(of(8)), payment(8, **IMPORTED)],
        None,
    ),
    ("paid-but-shorter", "", lambda: [subscription(8, end_date=NOW + DAY), revoked(8)], None),
    (
        "longer-than-paid",
        "",
        lambda: [
            subscription(8, end_date=NOW + 900 * DAY),
            payment(90, period_end=NOW + 999 * DAY),
        ],
        "8",
    ),
    (
        "longer-than-paid",
        "",
        lambda: [
            subscription(8, end_date=NOW + 100 * DAY),
            payment(101, period_end=NOW + 999 * DAY, customer_id=8),
        ],
        "8",
    ),
    (
        "longer-than-paid",
        "",
        lambda: [subscription(8, end_date=NOW + 100 * DAY), payment(8, **IMPORTED)],
        None,
    ),
    (
        "hash-unknown",
        "",
        lambda: [
            payment(101, customer_id=8),
            subscription(8, transaction_hash=hash_of(101)),
        ],
        "8",
    ),
    ("hash-unknown", "", lambda: [subscription(8, transaction_hash=ANN)], "8"),
    ("hash-unknown", "", lambda: [subscription(11, transaction_hash=hash_of(55))], "11"),
    (
        "expired-early",
        "",
        lambda: [subscription(8, expired_at=LATER, end_date=LATER)],
        None,
    ),
    ("expired-early", "", lambda: [subscription(7, expired_at=LATER), revoked(7)], None),
    (
        "expiry-overdue",
        "",
        lambda: [subscription(8, expired_at=None, end_date=LATER - 23 * HOUR)],
        None,
    ),
    (
        "expiry-overdue",
        "",
        lambda: [subscription(8, expired_at=NOW + 30 * DAY, end_date=LATER - 25 * HOUR)],
        None,
    ),
    (
        "expiry-overdue",
        "",
        lambda: [
            subscription(8, expired_at=None, end_date=LATER - 25 * HOUR),
            payment(102, customer_id=8),
            held(102),
        ],
        None,
    ),
    (
        "effect-overdue",
        "",
        lambda: [message("remove", 8, status="queued", not_before=LATER - 2 * HOUR)],
        None,
    ),
    (
        "paid-but-removed",
        "",
        lambda: [message("expired", 8, status="queued", chat_id=7)],
        "expired",
    ),
    ("paid-but-removed", "", lambda: [message("remove", 8, status="queued")], None),
    (
        "paid-but-removed",
        "",
        lambda: [
            message("remove", 8, status="queued", chat_id=7),
            subscription(7, expired_at=LATER),
        ],
        None,
    ),
]


def held(number: int) -> Any:
    return payment(number, status="held", next_check_at=None)


def revoked(chat_id: int) -> Any:
    line = {"at": LATER, "actor": "olga", "action": "subscribers revoke", "detail": ""}
    return insert(AUDIT).values(**line, subject=str(chat_id))


def of(chat_id: int) -> Any:
    return SUBSCRIPTION.c.customer_id == chat_id


@pytest.mark.parametrize(("name", "table", "statements", "row"), OTHERWISE)
def test_each_way_to_break_a_promise_is_found_and_what_is_sound_is_not(
    sound: Database, name: str, table: str, statements: Callable[[], list[Any]], row: str | None
) -> None:
    if row == "expired":
        (row,) = [str(o.id) for o in rows(sound, Outbox) if o.kind == "expired"]
    if table:
        loosened(sound, table)
    with sound.begin() as session:
        for statement in statements():
            session.execute(statement)
    broken = [finding.row for finding in found(sound) if finding.invariant == name]
    assert broken == ([row] if row else [])


def test_what_an_admin_accepted_before_the_chain_was_asked_is_no_import(sound: Database) -> None:
    number = hash_of(103)
    wanted: Any = {"person": 10, "period": "1 month", "transaction_hash": number}
    claim(sound, None, EXPECTATION, **wanted, now=LATER)
    decide_by_hand(sound, transaction_hash=number, accept=True, actor="olga", now=LATER)
    assert found(sound) == []
    with sound.begin() as session:
        session.execute(subscription(10, end_date=LATER + 40 * DAY))
    assert {(one.invariant, one.row) for one in found(sound)} == {("paid-but-shorter", "10")}


def test_what_an_admin_did_about_something_else_explains_nothing(sound: Database) -> None:
    line = {"at": LATER, "actor": "olga", "action": "users promote", "detail": ""}
    with sound.begin() as session:
        session.execute(insert(AUDIT), line | {"subject": "8"})
        session.execute(subscription(8, expired_at=NOW))
    assert [finding.invariant for finding in found(sound)] == ["expired-early"]


def test_an_index_of_another_schema_keeps_no_promise_here(
    postgresql_url: str,
) -> None:
    db = Database(postgresql_url)
    with db.begin() as session:
        session.execute(text("CREATE SCHEMA elsewhere"))
        session.execute(text("CREATE TABLE elsewhere.payment (transaction_hash text)"))
        session.execute(text("DROP INDEX payment_hash_live"))
        session.execute(
            text("CREATE INDEX payment_hash_live ON elsewhere.payment (transaction_hash)")
        )
    assert [finding.row for finding in found(db)] == ["payment_hash_live"]
    db.close()


def test_an_index_that_was_never_finished_keeps_no_promise(postgresql_url: str) -> None:
    """`CREATE UNIQUE INDEX CONCURRENTLY` that fails leaves an invalid one behind."""
    db = Database(postgresql_url)
    with db.begin() as session:
        session.execute(
            text(
                "UPDATE pg_index SET indisvalid = false"
                " WHERE indexrelid = 'payment_hash_live'::regclass"
            )
        )
    assert [finding.row for finding in found(db)] == ["payment_hash_live"]
    db.close()


def test_what_an_admin_did_explains_what_would_be_broken(sound: Database) -> None:
    line = {"at": LATER, "actor": "olga", "action": "subscribers revoke", "subject": "7"}
    with sound.begin() as session:
        session.execute(subscription(7, end_date=LATER, expired_at=LATER))
        session.execute(subscription(11, end_date=LATER + 800 * DAY))
    assert {finding.row for finding in found(sound)} == {"7"}
    with sound.begin() as session:
        session.execute(insert(AUDIT), line | {"detail": ""})
    assert found(sound) == []


def test_a_reference_to_nobody_is_found(sound: Database) -> None:
    loosened(sound, "subscription")
    with sound.begin() as session:
        session.execute(subscription(11, customer_id=12))
    named = [(f.table, f.row) for f in found(sound) if f.invariant == "reference-broken"]
    assert named == [("subscription", "grant-11")]


def test_an_index_that_is_gone_is_found(sound: Database) -> None:
    with sound.begin() as session:
        session.execute(text("DROP INDEX payment_hash_live"))
    (finding,) = found(sound)
    assert (finding.invariant, finding.row) == ("guarantee-missing", "payment_hash_live")


def test_a_damaged_file_is_found(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    for number in range(1, 300):
        person(db, number, None, first_name="x" * 64)
    db.close()
    live = sqlite3.connect(tmp_path / "buffettsbot.db")
    ((page,),) = live.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox_chat'")
    live.close()
    with (tmp_path / "buffettsbot.db").open("r+b") as raw:
        raw.seek((page - 1) * 4096)
        raw.write(b"\x55" * 4096)
    assert {finding.invariant for finding in found(Database(sqlite_url))} == {"file-damaged"}


def test_the_command_says_what_is_broken_and_ends_with_4(
    sound: Database, database_url: str
) -> None:
    run = Commands(database_url)
    with sound.begin() as session:
        session.execute(subscription(7, expired_at=NOW))
        session.execute(message("remove", 8, sent_at=None))
    result = run.inside("db", "check")
    assert result.code == 4
    assert "expired-early    subscription  7\n" in result.stdout
    assert "expired-early: This membership was ended before its time was up" in result.stderr
    told = run.inside("db", "check", "--json")
    assert told.code == 4
    assert told.json()["clean"] is False
    assert {row["invariant"] for row in told.json()["findings"]} >= {"expired-early"}
    assert {"invariant", "table", "row", "message"} == set(told.json()["findings"][0])


def test_an_empty_database_is_sound(db: Database, database_url: str) -> None:
    result = Commands(database_url).inside("db", "check")
    assert (result.code, result.stdout, result.stderr) == (0, "", "Every promise holds.\n")
