"""What the tables hold, and what the database itself refuses to hold."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from helpers import DAY, NOW, hash_of, member, person, rows, shop
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, StatementError

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Payment, Plan, Subscription, TelegramUser


def test_sqlite_runs_with_foreign_keys_wal_and_patience(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    with db.engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("foreign_keys", "journal_mode", "busy_timeout", "synchronous")
        ]
    assert pragmas == [1, "wal", 10_000, 2]
    db.close()


def test_times_come_back_aware_in_utc_and_naive_ones_are_refused(db: Database) -> None:
    moscow = datetime(2026, 3, 1, 15, 0, 0, 123456, tzinfo=timezone(timedelta(hours=3)))
    with db.begin() as session:
        session.add(TelegramUser(chat_id=1, date_joined=moscow))
    joined = rows(db, TelegramUser)[0].date_joined
    assert (joined, joined.utcoffset()) == (moscow, timedelta(0))

    def naive() -> None:
        with db.begin() as session:
            session.add(TelegramUser(chat_id=2, date_joined=datetime(2026, 3, 1)))  # noqa: DTZ001

    with pytest.raises(StatementError, match="(?i)timezone|naive|aware"):
        naive()


def test_ids_and_amounts_of_64_bits_fit(db: Database) -> None:
    shop(db)
    person(db, 2**52 - 1, "big")
    payment = _payment(customer_id=2**52 - 1, amount=2**63 - 1)
    with db.begin() as session:
        session.add(payment)
        session.add(_outbox(chat_id=-(2**52)))
    assert rows(db, Payment)[0].amount == 2**63 - 1
    assert rows(db, Outbox)[0].chat_id == -(2**52)


def _payment(**changes: Any) -> Payment:
    row: dict[str, Any] = {
        "transaction_hash": hash_of(1),
        "customer_id": 7,
        "plan_id": 1,
        "price": 50,
        "status": "pending",
        "reason": "not-found",
        "claimed_at": NOW,
        "next_check_at": NOW,
    }
    return Payment(**row | changes)


def _subscription(**changes: Any) -> Subscription:
    row: dict[str, Any] = {
        "transaction_hash": hash_of(1),
        "customer_id": 7,
        "plan_id": 1,
        "start_date": NOW,
        "end_date": NOW + DAY,
        "duration": 86400,
    }
    return Subscription(**row | changes)


def _outbox(**changes: Any) -> Outbox:
    row: dict[str, Any] = {
        "key": "k",
        "kind": "welcome",
        "chat_id": 7,
        "payload": {},
        "not_before": NOW,
        "created_at": NOW,
    }
    return Outbox(**row | changes)


def _user(**changes: Any) -> TelegramUser:
    row: dict[str, Any] = {"chat_id": 8, "date_joined": NOW}
    return TelegramUser(**row | changes)


ACCEPTED = {"status": "accepted", "decided_at": NOW, "period_start": NOW, "period_end": NOW}
LIVE = [{}, ACCEPTED, {"status": "held"}]


@pytest.mark.parametrize(
    "row",
    [
        _user(chat_id=0),
        _user(chat_id=-5),
        _user(telegram_username="ANN"),
        Plan(period="2 months", price=50),
        Plan(period="1 year", price=0),
        Plan(period="1 year", price=-1),
        Plan(period="1 month", price=70),
        _subscription(customer_id=99),
        _subscription(plan_id=99),
        _subscription(end_date=NOW),
        _subscription(end_date=NOW - DAY),
        _subscription(duration=0),
        _payment(customer_id=99),
        _payment(plan_id=99),
        _payment(status="paid"),
        _payment(next_check_at=None),
        _payment(**ACCEPTED | {"period_end": None}),
        _payment(**ACCEPTED | {"period_start": None}),
        _payment(**ACCEPTED | {"decided_at": None}),
        _payment(price=None),
        _payment(reason=None),
        _outbox(status="sending"),
        _outbox(kind=None),
    ],
)
def test_the_database_itself_refuses_what_must_never_be(db: Database, row: Any) -> None:
    shop(db)
    person(db)
    before = {model: len(rows(db, model)) for model in (TelegramUser, Plan, Payment, Outbox)}
    copy = type(row)(**{name: getattr(row, name) for name in type(row).model_fields})
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(copy)
    assert before == {model: len(rows(db, model)) for model in before}


@pytest.mark.parametrize("first", LIVE, ids=["pending", "accepted", "held"])
@pytest.mark.parametrize("second", LIVE, ids=["pending", "accepted", "held"])
def test_one_hash_can_be_alive_only_once_whoever_writes_it(
    db: Database, first: dict[str, Any], second: dict[str, Any]
) -> None:
    shop(db, month=50, year=400)
    person(db)
    person(db, 8, "bob")
    with db.begin() as session:
        session.add(_payment(**first))
        session.add(_payment(customer_id=8, status="refused"))
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(_payment(plan_id=2, **second))
    with pytest.raises(IntegrityError), db.begin() as session:
        session.execute(
            text(
                "UPDATE payment SET status = 'pending', next_check_at = claimed_at "
                "WHERE customer_id = 8"
            )
        )


def test_a_customer_has_one_membership(db: Database) -> None:
    member(db)
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(_subscription(transaction_hash=hash_of(2)))


def test_an_effect_on_telegram_is_queued_once_by_its_key(db: Database) -> None:
    with db.begin() as session:
        session.add(_outbox())
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(_outbox(kind="other"))


def test_nobody_who_has_a_ledger_can_be_deleted(db: Database) -> None:
    member(db)
    for statement in ("DELETE FROM telegram_user", "DELETE FROM plan"):
        with pytest.raises(IntegrityError), db.begin() as session:
            session.execute(text(statement))


def test_an_error_of_the_database_never_tells_the_values(db: Database) -> None:
    person(db, 7, "ann", first_name="SECRET")
    with pytest.raises(IntegrityError) as caught, db.begin() as session:
        session.add(_user(telegram_username="Ann", first_name="SECRET"))
    assert "SECRET" not in str(caught.value)
