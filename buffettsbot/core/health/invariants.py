"""The promises as questions to the data: each query finds the rows that break one.

They hold whatever happens, because constraints, compare-and-set and short transactions keep them; a
row found here means a bug, a damaged disk, a pass that does not run, or somebody who wrote into the
tables by hand. Each is one statement, the same on SQLite and PostgreSQL, safe while others work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
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
    text,
)
from sqlalchemy.engine import Connection

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import AUDIT, LIVE, METADATA, OUTBOX, PAYMENT, SUBSCRIPTION

# Telegram takes an hour for a reminder to 100,000 people; the other passes that end these run every
# minute, and expiry daily.
EFFECTS = timedelta(hours=3)
PAYMENTS = timedelta(hours=1)
EXPIRIES = timedelta(days=1)


@dataclass(frozen=True)
class Finding:
    """A row that breaks a promise. `row`: a payment's hash, a customer's chat id, a message's id,
    or the key of the row."""

    invariant: str
    table: str
    row: str
    message: str


@dataclass(frozen=True)
class Invariant:
    """What is never to be found: `rows` selects those of `table` of which `message` is true."""

    name: str
    table: str
    message: str
    rows: Select[Any]


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
_SOLD_HERE = func.coalesce(cast(PAYMENT.c.evidence, String), "").not_like('[{"source": "imported"%')
_OPEN = PAYMENT.c.status.in_(["pending", "held"])
_OWN = PAYMENT.c.customer_id == SUBSCRIPTION.c.customer_id
_IS_GRANT = SUBSCRIPTION.c.transaction_hash.startswith("grant-")
_GRANTED = and_(_IS_GRANT, _by_hand("subscribers grant", SUBSCRIPTION.c.customer_id))
_REVOKED = _by_hand("subscribers revoke", SUBSCRIPTION.c.customer_id)
_RUNNING = and_(SUBSCRIPTION.c.expired_at.is_(None), SUBSCRIPTION.c.end_date > bindparam("now"))

_PERIODS = select(
    PAYMENT.c.transaction_hash,
    PAYMENT.c.customer_id,
    PAYMENT.c.period_start,
    func.lag(PAYMENT.c.period_end)
    .over(
        partition_by=PAYMENT.c.customer_id, order_by=(PAYMENT.c.period_start, PAYMENT.c.period_end)
    )
    .label("earlier_end"),
)
_IN_A_ROW = _PERIODS.where(_ACCEPTED, _SOLD_HERE, PAYMENT.c.period_start.is_not(None)).subquery()
_MISSPELT = PAYMENT.c.transaction_hash != _canonical(PAYMENT.c.transaction_hash)
_LIVE_HASHES = (
    select(_canonical(PAYMENT.c.transaction_hash).label("spelt"))
    .where(PAYMENT.c.status.in_(LIVE), or_(_SOLD_HERE, ~_MISSPELT))
    .subquery()
)
_PAID_UNTIL = (
    select(PAYMENT.c.customer_id, func.max(PAYMENT.c.period_end).label("paid_until"))
    .where(_ACCEPTED, _SOLD_HERE)
    .group_by(PAYMENT.c.customer_id)
    .subquery()
)

INVARIANTS = (
    Invariant(
        "payment-without-period",
        "payment",
        "It was accepted, but the period that it bought is missing or empty.",
        select(PAYMENT.c.transaction_hash).where(
            _ACCEPTED,
            or_(
                PAYMENT.c.period_start.is_(None),
                PAYMENT.c.period_end.is_(None),
                PAYMENT.c.decided_at.is_(None),
                _SOLD_HERE & (PAYMENT.c.period_end <= PAYMENT.c.period_start),
            ),
        ),
    ),
    Invariant(
        "payment-without-amount",
        "payment",
        "The chain's answers are there and it was accepted, but no USDT arrived, and no admin "
        "approved it.",
        select(PAYMENT.c.transaction_hash).where(
            _ACCEPTED,
            _SOLD_HERE,
            PAYMENT.c.evidence.is_not(None),
            func.coalesce(PAYMENT.c.amount, 0) <= 0,
            ~_by_hand("payments approve", PAYMENT.c.transaction_hash),
        ),
    ),
    Invariant(
        "payment-contradicts-itself",
        "payment",
        "Its status does not go with its times: decided or not, due for a check or not.",
        select(PAYMENT.c.transaction_hash).where(
            or_(
                _OPEN & PAYMENT.c.decided_at.is_not(None),
                ~_OPEN & PAYMENT.c.decided_at.is_(None),
                ~_ACCEPTED & PAYMENT.c.period_end.is_not(None),
                (PAYMENT.c.status == "pending") != PAYMENT.c.next_check_at.is_not(None),
            )
        ),
    ),
    Invariant(
        "hash-twice",
        "payment",
        "This hash is alive more than once, in whatever spelling: one payment buys once.",
        select(_LIVE_HASHES.c.spelt).group_by(_LIVE_HASHES.c.spelt).having(func.count() > 1),
    ),
    Invariant(
        "hash-misspelt",
        "payment",
        "The hash is not written in the one spelling by which it would be known again.",
        select(PAYMENT.c.transaction_hash).where(_SOLD_HERE, _MISSPELT),
    ),
    Invariant(
        "payment-overdue",
        "payment",
        "It has been due for a check for over an hour. Run this, and see that its timer "
        "does: buffettsbot pass settle",
        select(PAYMENT.c.transaction_hash).where(
            PAYMENT.c.status == "pending", PAYMENT.c.next_check_at < bindparam("payments_due")
        ),
    ),
    Invariant(
        "periods-overlap",
        "payment",
        "Its period begins before the customer's earlier one ended: paid days were lost.",
        select(_IN_A_ROW.c.transaction_hash).where(
            _IN_A_ROW.c.earlier_end > _IN_A_ROW.c.period_start,
            ~_by_hand("subscribers revoke", _IN_A_ROW.c.customer_id),
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
    Invariant(
        "longer-than-paid",
        "subscription",
        "This membership ends later than the customer's payments and grants explain.",
        select(SUBSCRIPTION.c.customer_id).where(
            ~_GRANTED,
            ~exists().where(_ACCEPTED, _OWN, PAYMENT.c.period_end >= SUBSCRIPTION.c.end_date),
            ~exists().where(_ACCEPTED, _OWN, ~_SOLD_HERE),
        ),
    ),
    Invariant(
        "hash-unknown",
        "subscription",
        "The hash behind this membership is neither an accepted payment of the customer nor a "
        "grant in the audit log.",
        select(SUBSCRIPTION.c.customer_id).where(
            ~_GRANTED,
            ~exists().where(
                _ACCEPTED, _OWN, PAYMENT.c.transaction_hash == SUBSCRIPTION.c.transaction_hash
            ),
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
    Invariant(
        "expired-early",
        "subscription",
        "This membership was ended before its time was up, and nobody revoked it.",
        select(SUBSCRIPTION.c.customer_id).where(
            SUBSCRIPTION.c.expired_at < SUBSCRIPTION.c.end_date, ~_REVOKED
        ),
    ),
    Invariant(
        "expiry-overdue",
        "subscription",
        "Its time was up over a day ago, and it has not ended. Run this, and see that its "
        "timer does: buffettsbot pass expire",
        select(SUBSCRIPTION.c.customer_id).where(
            SUBSCRIPTION.c.expired_at.is_(None),
            SUBSCRIPTION.c.end_date < bindparam("expiries_due"),
            ~exists().where(_OPEN, _OWN),
        ),
    ),
    Invariant(
        "effect-overdue",
        "outbox",
        "This message has been waiting for over three hours. Run this, and see that its "
        "timer does: buffettsbot pass deliver",
        select(OUTBOX.c.id).where(
            OUTBOX.c.status == "queued", OUTBOX.c.not_before < bindparam("effects_due")
        ),
    ),
    Invariant(
        "paid-but-removed",
        "outbox",
        "This waits to remove, or to bid farewell to, somebody whose membership runs. "
        "To take it back: buffettsbot outbox cancel ID",
        select(OUTBOX.c.id)
        .join(SUBSCRIPTION, SUBSCRIPTION.c.customer_id == OUTBOX.c.chat_id)
        .where(OUTBOX.c.status == "queued", OUTBOX.c.kind.in_(["remove", "expired"]), _RUNNING),
    ),
    Invariant(
        "sent-but-when",
        "outbox",
        "This message counts as sent, but nobody wrote down when.",
        select(OUTBOX.c.id).where(OUTBOX.c.status == "sent", OUTBOX.c.sent_at.is_(None)),
    ),
)


def find_broken(db: Database, *, now: datetime) -> Iterator[Finding]:
    """Yield every row that breaks a promise; nothing is changed. Raises Unavailable."""
    moments = {
        "now": now,
        "effects_due": now - EFFECTS,
        "payments_due": now - PAYMENTS,
        "expiries_due": now - EXPIRIES,
    }
    with db.read() as session:
        connection = session.connection()
        if db.is_sqlite:
            yield from _damage(connection)
        yield from _missing_guarantees(connection)
        for invariant in (*INVARIANTS, *_REFERENCES):
            for (row,) in connection.execute(invariant.rows, moments):
                yield Finding(invariant.name, invariant.table, str(row), invariant.message)


def _references() -> Iterator[Invariant]:
    """Yield an invariant for each foreign key there is: what it names exists."""
    for table in METADATA.sorted_tables:
        for key in table.foreign_keys:
            named = key.column.table
            yield Invariant(
                "reference-broken",
                table.name,
                f"The {named.name} that its {key.parent.name} names does not exist.",
                select(*table.primary_key)
                .outerjoin(named, key.parent == key.column)
                .where(key.parent.is_not(None), key.column.is_(None)),
            )


_REFERENCES = tuple(_references())


def _damage(connection: Connection) -> Iterator[Finding]:
    for (said,) in connection.exec_driver_sql("PRAGMA quick_check(20)"):
        if said != "ok":
            yield Finding(
                "file-damaged", "", str(said), "The file is damaged. Restore the last good backup."
            )


# Promises that are kept by an index are only kept while it is there.
_GUARANTEES = {
    str(index.name): table.name
    for table in METADATA.sorted_tables
    for index in table.indexes
    if index.unique
}
_INDEXES = {
    "sqlite": text("SELECT name FROM sqlite_master WHERE type = 'index'"),
    "postgresql": text(
        "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid"
        " WHERE indisvalid AND pg_table_is_visible(pg_class.oid)"
    ),
}


def _missing_guarantees(connection: Connection) -> Iterator[Finding]:
    there = set(connection.scalars(_INDEXES[connection.dialect.name]))
    for name, table in _GUARANTEES.items():
        if name not in there:
            yield Finding(
                "guarantee-missing",
                table,
                name,
                "This unique index is gone, and a promise with it.",
            )
