"""The ledger: every hash ever claimed, by whom, and what came of it. Read here, written by
claims."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, select
from sqlmodel import col

from buffettsbot.core.errors import NotFound
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import LIVE, OPEN, PAYMENT, Payment, Plan, TelegramUser
from buffettsbot.core.storage.statements import paged

ENTRY = [column for column in PAYMENT.c if column.name != "evidence"]


class Entry(NamedTuple):
    """One row of the ledger, without its evidence; fields are the columns, in their order."""

    id: int
    transaction_hash: str
    customer_id: int
    plan_id: int
    price: int
    status: str
    reason: str
    amount: int | None
    sender: str | None
    paid_at: datetime | None
    claimed_at: datetime
    decided_at: datetime | None
    attempts: int
    next_check_at: datetime | None
    period_start: datetime | None
    period_end: datetime | None


def _entries() -> Select[Payment, str | None, str]:
    return (
        select(Payment, col(TelegramUser.telegram_username), col(Plan.period))
        .join(TelegramUser, col(TelegramUser.chat_id) == col(Payment.customer_id))
        .join(Plan, col(Plan.id) == col(Payment.plan_id))
    )


def _entry(row: Any) -> dict[str, Any]:
    payment, username, period = row
    return {
        "id": payment.id,
        "transaction_hash": payment.transaction_hash,
        "customer_id": payment.customer_id,
        "telegram_username": username,
        "plan_id": payment.plan_id,
        "plan": period,
        "price": payment.price,
        "status": payment.status,
        "reason": payment.reason,
        "amount": payment.amount,
        "sender": payment.sender,
        "paid_at": payment.paid_at,
        "claimed_at": payment.claimed_at,
        "decided_at": payment.decided_at,
        "attempts": payment.attempts,
        "next_check_at": payment.next_check_at,
        "period_start": payment.period_start,
        "period_end": payment.period_end,
        "evidence": payment.evidence,
    }


def list_payments(
    db: Database,
    *,
    status: str | None = None,
    customer_id: int | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the ledger's entries, the newest first, page by page. Amounts in micro-USDT."""
    query = _entries().order_by(col(Payment.id).desc())
    if status is not None:
        query = query.where(col(Payment.status) == status)
    if customer_id is not None:
        query = query.where(col(Payment.customer_id) == customer_id)

    def fetch(last: dict[str, Any] | None, size: int) -> list[dict[str, Any]]:
        page = query.where(col(Payment.id) < last["id"]) if last else query
        with db.read() as session:
            return [_entry(row) for row in session.execute(page.limit(size))]

    return paged(fetch, limit)


def show_payment(db: Database, transaction_hash: str) -> list[dict[str, Any]]:
    """Return every claim of a hash: the one that counts first, then the refused, the newest first.

    Raises Invalid for what is no hash, NotFound when nobody ever claimed it.
    """
    query = _entries().where(col(Payment.transaction_hash) == parse_hash(transaction_hash))
    with db.read() as session:
        rows = session.execute(query.order_by(col(Payment.id).desc())).all()
    if not rows:
        raise NotFound("Nobody ever claimed this hash. To look at it: buffettsbot verify HASH")
    return sorted((_entry(row) for row in rows), key=lambda entry: entry["status"] not in LIVE)


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
