"""The ledger: every hash ever claimed, by whom, and what came of it. Read here; what others write
into it they compare with what they saw."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, select
from sqlalchemy.engine import Connection

from buffettsbot.core.errors import NotFound
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import LIVE, OPEN, PAYMENT, PLAN, TELEGRAM_USER
from buffettsbot.core.storage.statements import paged


class Entry(NamedTuple):
    """What those who decide read of a row of the ledger.

    A tuple: as the model `Payment` it would cost 8 % of the claims a second.
    """

    id: int
    transaction_hash: str
    customer_id: int
    plan_id: int
    price: int
    claimed_at: datetime
    status: str
    reason: str
    attempts: int
    next_check_at: datetime | None = None
    decided_at: datetime | None = None
    amount: int | None = None
    sender: str | None = None
    paid_at: datetime | None = None
    period_end: datetime | None = None


ENTRY = [PAYMENT.c[name] for name in Entry._fields]
# By more than its number: where a backup was restored, the number may be another's.
UNCHANGED = and_(
    PAYMENT.c.id == bindparam("seen_id"),
    PAYMENT.c.transaction_hash == bindparam("seen_hash"),
    PAYMENT.c.customer_id == bindparam("seen_customer"),
    PAYMENT.c.status == bindparam("seen_status"),
)
_CLAIMS = (
    select(*ENTRY).where(PAYMENT.c.transaction_hash == bindparam("hash")).order_by(PAYMENT.c.id)
)


def seen(payment: Entry) -> dict[str, Any]:
    """Return what `UNCHANGED` compares: whose payment was seen, and its status."""
    return {
        "seen_id": payment.id,
        "seen_hash": payment.transaction_hash,
        "seen_customer": payment.customer_id,
        "seen_status": payment.status,
    }


def claims_of(connection: Connection, transaction_hash: str) -> list[Entry]:
    """Return every claim of a hash, the oldest first."""
    found = connection.execute(_CLAIMS, {"hash": transaction_hash})
    return [Entry._make(row) for row in found]


def _columns() -> Iterator[ColumnElement[Any]]:
    """The ledger's own columns; beside the numbers of customer and plan stand their names."""
    for column in PAYMENT.c:
        yield column
        if column is PAYMENT.c.customer_id:
            yield TELEGRAM_USER.c.telegram_username
        if column is PAYMENT.c.plan_id:
            yield PLAN.c.period.label("plan")


_LISTED = (
    select(*_columns())
    .select_from(PAYMENT)
    .join(TELEGRAM_USER, TELEGRAM_USER.c.chat_id == PAYMENT.c.customer_id)
    .join(PLAN, PLAN.c.id == PAYMENT.c.plan_id)
    .order_by(PAYMENT.c.id.desc())
)
# What a list shows of a payment, in this order.
FIELDS = tuple(c.name for c in _LISTED.selected_columns if c is not PAYMENT.c.evidence)


def list_payments(
    db: Database,
    *,
    status: str | None = None,
    customer_id: int | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the ledger's entries, the newest first, page by page: `FIELDS`, and the evidence.

    Amounts in micro-USDT.
    """
    query = _LISTED
    if status is not None:
        query = query.where(PAYMENT.c.status == status)
    if customer_id is not None:
        query = query.where(PAYMENT.c.customer_id == customer_id)

    def fetch(last: dict[str, Any] | None, size: int) -> list[dict[str, Any]]:
        page = query.where(PAYMENT.c.id < last["id"]) if last else query
        with db.read() as session:
            return [dict(row._mapping) for row in session.execute(page.limit(size))]

    return paged(fetch, limit)


def show_payment(db: Database, transaction_hash: str) -> list[dict[str, Any]]:
    """Return every claim of a hash: the one that counts first, then the refused, the newest first.

    Raises Invalid for what is no hash, NotFound when nobody ever claimed it.
    """
    query = _LISTED.where(PAYMENT.c.transaction_hash == parse_hash(transaction_hash))
    with db.read() as session:
        claims = [dict(row._mapping) for row in session.execute(query)]
    if not claims:
        raise NotFound("Nobody ever claimed this hash. To look at it: buffettsbot verify HASH")
    return sorted(claims, key=lambda claim: claim["status"] not in LIVE)


def open_payment(db: Database, transaction_hash: str) -> dict[str, Any]:
    """Return the claim of a hash that is still to be decided. Raises Invalid, NotFound."""
    first = show_payment(db, transaction_hash)[0]
    if first["status"] not in OPEN:
        raise nothing_open()
    return first


def nothing_open() -> NotFound:
    """The error for a hash of which no claim is to be decided."""
    return NotFound(
        "No payment with this hash is pending or held. To look at it: "
        "buffettsbot payments show HASH"
    )
