"""Paid days are never lost: a renewal adds to the end of what runs.

Every test runs on both databases.
"""

from datetime import timedelta
from typing import Any

import pytest
from claiming import ann_and_a_month, reason
from helpers import (
    DAY,
    NOW,
    buy,
    hash_of,
    ledger,
    membership,
    queued,
    shop,
    staff,
)
from sqlalchemy import event, update

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Subscription


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


@pytest.mark.parametrize("days", [0, 1, 15, 29])
def test_renewing_early_adds_to_the_end(db: Database, days: int) -> None:
    staff(db, 1)
    buy(db, hash_of(1))
    again = buy(db, hash_of(2), now=NOW + days * DAY)
    assert (again.start_date, again.end_date) == (NOW + days * DAY, NOW + 60 * DAY)
    standing = membership(db)
    assert (standing.start_date, standing.end_date) == (NOW + days * DAY, NOW + 60 * DAY)
    assert [(e.period_start, e.period_end) for e in ledger(db)] == [
        (NOW, NOW + 30 * DAY),
        (NOW + 30 * DAY, NOW + 60 * DAY),
    ]
    assert queued(db, 7) == ["welcome", "renewal"]
    assert queued(db, 1) == ["admin-add", "admin-keep"]


def test_renewing_at_the_very_end_or_later_starts_anew(db: Database) -> None:
    buy(db, hash_of(1))
    at_the_end = NOW + 30 * DAY
    assert buy(db, hash_of(2), now=at_the_end).end_date == at_the_end + 30 * DAY
    much_later = NOW + 500 * DAY
    assert buy(db, hash_of(3), now=much_later).end_date == much_later + 30 * DAY
    assert queued(db, 7) == ["welcome"] * 3


def test_someone_whose_membership_was_ended_comes_back(db: Database) -> None:
    buy(db, hash_of(1))
    with db.begin() as session:
        session.execute(update(Subscription).values(expired_at=NOW + 30 * DAY))
    outcome = buy(db, hash_of(2), now=NOW + 31 * DAY)
    assert outcome.end_date == NOW + 61 * DAY
    assert membership(db).expired_at is None
    assert queued(db, 7) == ["welcome", "welcome"]


def test_many_renewals_add_up_to_the_day(db: Database) -> None:
    shop(db, year=400, quarter=120)
    periods = ["1 month", "1 year", "3 months", "1 month", "1 year"]
    for number, period in enumerate(periods, 1):
        buy(db, hash_of(number), period=period, usdt="400", now=NOW + number * DAY)
    assert membership(db).end_date == NOW + DAY + timedelta(days=30 + 365 + 90 + 30 + 365)
    spans = [(e.period_start, e.period_end) for e in ledger(db)]
    assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_renewal_that_meets_the_expiry_in_the_same_moment_loses_no_day(
    db: Database, database_url: str
) -> None:
    """Between reading the old end and writing the new one, the expiry pass ends the membership.

    On SQLite the write lock makes this moment impossible.
    """
    buy(db, hash_of(1))
    other = Database(database_url)
    ended: list[int] = []

    def expire(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE subscription") and not ended:
            ended.append(1)
            with other.begin() as session:
                session.execute(update(Subscription).values(expired_at=NOW + 29 * DAY))

    event.listen(db.engine, "before_cursor_execute", expire)
    outcome = buy(db, hash_of(2), now=NOW + 29 * DAY)
    other.close()
    assert (reason(outcome), outcome.end_date) == (Reason.ACCEPTED, NOW + 59 * DAY)
    assert membership(db).expired_at is None
    assert queued(db, 7) == ["welcome", "welcome"], "they were out, so they come in again"
