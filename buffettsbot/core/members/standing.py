"""A membership as it stands: read, compared, extended, by whoever has locked the customer."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.storage.models import OPEN, PAYMENT, SUBSCRIPTION
from buffettsbot.core.storage.statements import insert_once

_STANDING = select(
    SUBSCRIPTION.c.transaction_hash,
    SUBSCRIPTION.c.plan_id,
    SUBSCRIPTION.c.start_date,
    SUBSCRIPTION.c.end_date,
    SUBSCRIPTION.c.expired_at,
).where(SUBSCRIPTION.c.customer_id == bindparam("customer"))
# Expiry may end a membership after it was read; then it ran out before this renewal, and the new
# period must begin now: `expired_at` is part of what was seen, and it is read again.
REPLACE = (
    update(SUBSCRIPTION)
    .where(
        SUBSCRIPTION.c.customer_id == bindparam("customer"),
        SUBSCRIPTION.c.transaction_hash == bindparam("seen_hash"),
        SUBSCRIPTION.c.end_date == bindparam("seen_end"),
        SUBSCRIPTION.c.expired_at.is_not_distinct_from(bindparam("seen_expiry")),
    )
    .returning(SUBSCRIPTION.c.customer_id)
)


class Raced(Exception):
    """Another transaction changed the row first; do the whole again."""


class Standing(NamedTuple):
    """A membership as it was read, to be compared when it is changed."""

    transaction_hash: str
    plan_id: int | None
    start_date: datetime
    end_date: datetime
    expired_at: datetime | None

    def runs(self, now: datetime) -> bool:
        """Return whether it runs at this moment."""
        return self.expired_at is None and self.end_date > now


def standing_of(connection: Connection, customer_id: int) -> Standing | None:
    """Return a customer's membership, running or not."""
    row = connection.execute(_STANDING, {"customer": customer_id}).first()
    return row and Standing._make(row)


def extend(
    connection: Connection,
    standing: Standing | None,
    *,
    customer_id: int,
    plan_id: int,
    transaction_hash: str,
    duration: timedelta,
    now: datetime,
) -> tuple[datetime, datetime, bool]:
    """Start or renew a membership; return the paid period, and whether one was still running.

    Paid days are never lost: `end = max(now, current end) + duration`. The customer is locked;
    `standing` may be from before that, and is read again where it has changed. Raises Raced.
    """
    for _ in range(2):
        renewed = standing is not None and standing.runs(now)
        start = standing.end_date if standing is not None and renewed else now
        row = {
            "customer_id": customer_id,
            "transaction_hash": transaction_hash,
            "plan_id": plan_id,
            "start_date": now,
            "end_date": start + duration,
            "duration": int(duration.total_seconds()),
            "expired_at": None,
        }
        if _replace(connection, standing, row):
            return start, start + duration, renewed
        standing = standing_of(connection, customer_id)
    raise Raced


def _replace(connection: Connection, seen: Standing | None, row: dict[str, Any]) -> bool:
    """Write a membership in place of the one that was seen; say no where it is another by now."""
    if seen is None:
        return insert_once(connection, SUBSCRIPTION, row) is not None
    as_seen = {
        "customer": row["customer_id"],
        "seen_hash": seen.transaction_hash,
        "seen_end": seen.end_date,
        "seen_expiry": seen.expired_at,
    }
    return connection.execute(REPLACE, row | as_seen).scalar() is not None


def runs_at(now: Any) -> ColumnElement[bool]:
    """The condition on a membership that it runs at this moment, or at this bound parameter."""
    return and_(SUBSCRIPTION.c.expired_at.is_(None), SUBSCRIPTION.c.end_date > now)


def has_undecided(customer: ColumnElement[int]) -> ColumnElement[bool]:
    """The condition on a customer that a payment of theirs is still to be decided."""
    return (
        select(PAYMENT.c.id)
        .where(PAYMENT.c.customer_id == customer, PAYMENT.c.status.in_(OPEN))
        .exists()
    )
