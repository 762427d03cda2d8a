"""The promises as questions to the data: each query finds the rows that break one.

They hold whatever happens, because constraints, compare-and-set and short transactions keep them.
Each is one statement, the same on SQLite and PostgreSQL.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    or_,
    select,
)

from buffettsbot.core.from_django.books import IS_IMPORTED
from buffettsbot.core.hashes import GRANT
from buffettsbot.core.members.standing import has_undecided, runs_at
from buffettsbot.core.storage.models import AUDIT, LIVE, OPEN, OUTBOX, PAYMENT, SUBSCRIPTION

# Telegram takes an hour for a reminder to 100,000 people; the other passes that end these run every
# minute, and expiry daily.
EFFECTS = timedelta(hours=3)
PAYMENTS = timedelta(hours=1)
EXPIRIES = timedelta(days=1)


@dataclass(frozen=True)
class Invariant:
    """What is never to be found: `rows` selects those of `table` of which `message` is true."""

    name: str
    table: str
    message: str
    rows: Select[Any]


def _payment(name: str, message: str, *conditions: ColumnElement[bool]) -> Invariant:
    return Invariant(
        name, "payment", message, select(PAYMENT.c.transaction_hash).where(*conditions)
    )


def _membership(name: str, message: str, *conditions: ColumnElement[bool]) -> Invariant:
    query = select(SUBSCRIPTION.c.customer_id).where(*conditions)
    return Invariant(name, "subscription", message, query)


def _message(name: str, message: str, *conditions: ColumnElement[bool]) -> Invariant:
    return Invariant(name, "outbox", message, select(OUTBOX.c.id).where(*conditions))


def _by_hand(action: str, subject: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether an admin did this, by the audit log."""
    return exists().where(AUDIT.c.action == action, AUDIT.c.subject == cast(subject, String))


def _canonical(transaction_hash: ColumnElement[str]) -> ColumnElement[str]:
    """What all spellings of a hash have in common: its 64 digits, without a link or 0x before."""
    length, lower = func.length(transaction_hash), func.lower(transaction_hash)
    return case((length > 64, func.substr(lower, length - 63)), else_=lower)


_ACCEPTED = PAYMENT.c.status == "accepted"
# `db import-django` burns whatever the original took for a hash, and its periods are as they were
# there: some empty, some beside those sold here, some nobody's.
_SOLD_HERE = and_(_ACCEPTED, ~IS_IMPORTED)
_OPEN = PAYMENT.c.status.in_(OPEN)
_OWN = PAYMENT.c.customer_id == SUBSCRIPTION.c.customer_id
_IS_MISSPELT = PAYMENT.c.transaction_hash != _canonical(PAYMENT.c.transaction_hash)
_IS_GRANT = and_(
    SUBSCRIPTION.c.transaction_hash.startswith(GRANT),
    _by_hand("subscribers grant", SUBSCRIPTION.c.customer_id),
)

_ALIVE = (
    select(_canonical(PAYMENT.c.transaction_hash).label("spelt"))
    .where(PAYMENT.c.status.in_(LIVE), ~and_(IS_IMPORTED, _IS_MISSPELT))
    .subquery()
)
_EARLIER_END = func.lag(PAYMENT.c.period_end).over(
    partition_by=PAYMENT.c.customer_id, order_by=(PAYMENT.c.period_start, PAYMENT.c.period_end)
)
_PERIODS = (
    select(
        PAYMENT.c.transaction_hash,
        PAYMENT.c.customer_id,
        PAYMENT.c.period_start,
        _EARLIER_END.label("earlier_end"),
    )
    .where(_SOLD_HERE, PAYMENT.c.period_start.is_not(None))
    .subquery()
)
_PAID_UNTIL = (
    select(PAYMENT.c.customer_id, func.max(PAYMENT.c.period_end).label("paid_until"))
    .where(_SOLD_HERE)
    .group_by(PAYMENT.c.customer_id)
    .subquery()
)

INVARIANTS = (
    _payment(
        "payment-without-period",
        "It was accepted, but the period that it bought is missing or empty.",
        _ACCEPTED,
        or_(
            PAYMENT.c.period_start.is_(None),
            PAYMENT.c.period_end.is_(None),
            PAYMENT.c.decided_at.is_(None),
            _SOLD_HERE & (PAYMENT.c.period_end <= PAYMENT.c.period_start),
        ),
    ),
    _payment(
        "payment-without-amount",
        "The chain's answers are there and it was accepted, but no USDT arrived, and no admin "
        "approved it.",
        _SOLD_HERE,
        PAYMENT.c.evidence.is_not(None),
        func.coalesce(PAYMENT.c.amount, 0) <= 0,
        ~_by_hand("payments approve", PAYMENT.c.transaction_hash),
    ),
    _payment(
        "payment-contradicts-itself",
        "Its status does not go with its times: decided or not, due for a check or not.",
        or_(
            _OPEN & PAYMENT.c.decided_at.is_not(None),
            ~_OPEN & PAYMENT.c.decided_at.is_(None),
            ~_ACCEPTED & PAYMENT.c.period_end.is_not(None),
            (PAYMENT.c.status == "pending") != PAYMENT.c.next_check_at.is_not(None),
        ),
    ),
    Invariant(
        "hash-twice",
        "payment",
        "This hash is alive more than once, in whatever spelling: one payment buys once.",
        select(_ALIVE.c.spelt).group_by(_ALIVE.c.spelt).having(func.count() > 1),
    ),
    _payment(
        "hash-misspelt",
        "The hash is not written in the one spelling by which it would be known again.",
        ~IS_IMPORTED,
        _IS_MISSPELT,
    ),
    _payment(
        "payment-overdue",
        "It has been due for a check for over an hour. Run this, and see that its timer "
        "does: buffettsbot pass settle",
        PAYMENT.c.status == "pending",
        PAYMENT.c.next_check_at < bindparam("payments_due"),
    ),
    Invariant(
        "periods-overlap",
        "payment",
        "Its period begins before the customer's earlier one ended: paid days were lost.",
        select(_PERIODS.c.transaction_hash).where(
            _PERIODS.c.earlier_end > _PERIODS.c.period_start,
            ~_by_hand("subscribers revoke", _PERIODS.c.customer_id),
        ),
    ),
    Invariant(
        "paid-but-shorter",
        "subscription",
        "This customer has paid for longer than the membership lasts, or has none at all.",
        select(_PAID_UNTIL.c.customer_id)
        .outerjoin(SUBSCRIPTION, SUBSCRIPTION.c.customer_id == _PAID_UNTIL.c.customer_id)
        .where(
            func.coalesce(
                SUBSCRIPTION.c.end_date < _PAID_UNTIL.c.paid_until,
                SUBSCRIPTION.c.customer_id.is_(None),
            ),
            ~_by_hand("subscribers revoke", _PAID_UNTIL.c.customer_id),
        ),
    ),
    _membership(
        "longer-than-paid",
        "This membership ends later than the customer's payments and grants explain.",
        ~_IS_GRANT,
        ~exists().where(_ACCEPTED, _OWN, PAYMENT.c.period_end >= SUBSCRIPTION.c.end_date),
        ~exists().where(IS_IMPORTED, _OWN),
    ),
    _membership(
        "hash-unknown",
        "The hash behind this membership is neither an accepted payment of the customer nor a "
        "grant in the audit log.",
        ~_IS_GRANT,
        ~exists().where(
            _ACCEPTED, _OWN, PAYMENT.c.transaction_hash == SUBSCRIPTION.c.transaction_hash
        ),
    ),
    Invariant(
        "customer-twice",
        "subscription",
        "This customer has more than one membership.",
        select(SUBSCRIPTION.c.customer_id)
        .group_by(SUBSCRIPTION.c.customer_id)
        .having(func.count() > 1),
    ),
    _membership(
        "expired-early",
        "This membership was ended before its time was up, and nobody revoked it.",
        SUBSCRIPTION.c.expired_at < SUBSCRIPTION.c.end_date,
        ~_by_hand("subscribers revoke", SUBSCRIPTION.c.customer_id),
    ),
    _membership(
        "expiry-overdue",
        "Its time was up over a day ago, and it has not ended. Run this, and see that its "
        "timer does: buffettsbot pass expire",
        SUBSCRIPTION.c.expired_at.is_(None),
        SUBSCRIPTION.c.end_date < bindparam("expiries_due"),
        ~has_undecided(SUBSCRIPTION.c.customer_id),
    ),
    _message(
        "effect-overdue",
        "This message has been waiting for over three hours. Run this, and see that its "
        "timer does: buffettsbot pass deliver",
        OUTBOX.c.status == "queued",
        OUTBOX.c.not_before < bindparam("effects_due"),
    ),
    _message(
        "paid-but-removed",
        "This waits to remove, or to bid farewell to, somebody whose membership runs. "
        "To take it back: buffettsbot outbox cancel ID",
        OUTBOX.c.status == "queued",
        OUTBOX.c.kind.in_(["remove", "expired"]),
        exists().where(SUBSCRIPTION.c.customer_id == OUTBOX.c.chat_id, runs_at(bindparam("now"))),
    ),
    _message(
        "sent-but-when",
        "This message counts as sent, but nobody wrote down when.",
        OUTBOX.c.status == "sent",
        OUTBOX.c.sent_at.is_(None),
    ),
)
