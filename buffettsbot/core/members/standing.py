"""A membership as it stands: read, compared, extended, by whoever has locked the customer."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.storage.models import OPEN, PAYMENT, SUBSCRIPTION
from buffettsbot.core.storage.statements import insert_once


class Raced(Exception):
    """Another transaction changed the row first; do the whole again."""


class Standing(NamedTuple):
    """A membership as it was read, to be compared when it is changed."""

    transaction_hash: str
    end_date: datetime
    expired_at: datetime | None


STANDING = (SUBSCRIPTION.c.transaction_hash, SUBSCRIPTION.c.end_date, SUBSCRIPTION.c.expired_at)
_STANDING = select(*STANDING).where(SUBSCRIPTION.c.customer_id == bindparam("customer"))


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
    row = {
        "customer_id": customer_id,
        "transaction_hash": transaction_hash,
        "plan_id": plan_id,
        "start_date": now,
        "duration": int(duration.total_seconds()),
        "expired_at": None,
    }
    for _ in range(2):
        running = standing is not None and standing.expired_at is None and standing.end_date > now
        start = standing.end_date if standing and running else now
        if _replaced(connection, standing, row | {"end_date": start + duration}):
            return start, start + duration, running
        standing = standing_of(connection, customer_id)
    raise Raced


def _replaced(connection: Connection, standing: Standing | None, row: dict[str, Any]) -> bool:
    if standing is None:
        return insert_once(connection, SUBSCRIPTION, row) is not None
    names = ("seen_hash", "seen_end", "seen_expiry")
    seen = dict(zip(names, standing, strict=True)) | {"customer": row["customer_id"]}
    return connection.execute(REPLACE, row | seen).scalar() is not None


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
