"""What the books here say of a page's customers and hashes, and how a page is entered in them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Table, and_, bindparam, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.from_django.merge import Membership
from buffettsbot.core.from_django.rows import NOBODY, Sale
from buffettsbot.core.members.notices import OVERTAKEN
from buffettsbot.core.members.standing import REPLACE, Raced
from buffettsbot.core.offers.plans import HIGHEST_PRICE
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.models import PAYMENT, PLAN, SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.storage.statements import insert_once, insert_rows_once

# The ledger names a plan of ours always; a payment for none of ours is entered under this one.
UNKNOWN_PLAN = "1 month"
# What is accepted here was decided here, by the chain's word or an admin's, which counts as an
# attempt. Only what the original had accepted has none.
IS_IMPORTED = and_(PAYMENT.c.status == "accepted", PAYMENT.c.attempts == 0)


def lock_customers(connection: Connection, sales: Sequence[Sale]) -> None:
    """Lock whom a page is about, as a claim does, so that nobody deadlocks; enter strangers."""
    strangers = [
        {
            "chat_id": sale.customer or NOBODY,
            "telegram_username": None,
            "first_name": "" if sale.customer else "Nobody",
            "last_name": "" if sale.customer else "(of the original)",
            "at_private_group": sale.at_private_group and bool(sale.customer),
            "date_joined": sale.start,
            "is_staff": False,
        }
        for sale in sales
        if not (sale.customer and sale.is_registered)
    ]
    insert_rows_once(connection, TELEGRAM_USER, strangers)
    connection.execute(_LOCK, {"ids": _customers(sales)})


def plans_for(connection: Connection, sales: Sequence[Sale], *, dry_run: bool) -> dict[str, int]:
    """Return the plans' ids by period; one that the original has lost comes back, retired.

    In a rehearsal it has no id yet, but 0. Raises Raced.
    """
    plans: dict[str, int] = dict(connection.execute(select(PLAN.c.period, PLAN.c.id)).all())
    for sale in sales:
        period = sale.period or UNKNOWN_PLAN
        if period in plans:
            continue
        plans[period] = 0 if dry_run else _retired_plan(connection, period, sale.price)
    return plans


def _retired_plan(connection: Connection, period: str, price: int) -> int:
    allowed = min(max(price, 1), HIGHEST_PRICE)
    row = {"period": period, "price": allowed, "is_active": False}
    number: int | None = insert_once(connection, PLAN, row)
    if number is None:
        raise Raced
    return number


def claims_of(connection: Connection, sales: Sequence[Sale]) -> dict[str, list[Any]]:
    """Return what the ledger has of these hashes, by hash."""
    claims: dict[str, list[Any]] = {sale.transaction_hash: [] for sale in sales}
    for row in connection.execute(_CLAIMS, {"hashes": list(claims)}):
        claims[row.transaction_hash].append(row)
    return claims


def memberships_of(connection: Connection, sales: Sequence[Sale]) -> dict[int, Membership]:
    """Return the memberships of a page's customers, by customer."""
    return {
        row.customer_id: Membership(
            row.transaction_hash,
            row.plan_id,
            row.start_date,
            row.end_date,
            row.duration,
            row.expired_at,
            imported=bool(row.is_imported),
            renewed=row.period_start is not None and row.period_start > row.start_date,
        )
        for row in connection.execute(_STANDING, {"ids": _customers(sales)})
    }


def enter_payments(
    connection: Connection,
    new: Sequence[dict[str, Any]],
    refused: Mapping[int, Mapping[str, Any]],
) -> None:
    """Enter new payments, and accept by their ids those that had been refused. Raises Raced."""
    _insert(connection, PAYMENT, new)
    for number, payment in refused.items():
        if connection.execute(_ACCEPT, {**payment, "payment": number}).first() is None:
            raise Raced


def enter_memberships(
    connection: Connection, before: Mapping[int, Membership], changed: Mapping[int, Membership]
) -> None:
    """Enter memberships by customer, or replace those that stood before. Raises Raced."""
    _insert(connection, SUBSCRIPTION, [_row(c, changed[c]) for c in changed if c not in before])
    for customer in [c for c in changed if c in before]:
        seen = {
            "customer": customer,
            "seen_hash": before[customer].transaction_hash,
            "seen_end": before[customer].end_date,
            "seen_expiry": before[customer].expired_at,
        }
        row = _row(customer, changed[customer])
        if connection.execute(REPLACE, row | seen).first() is None:
            raise Raced
        outbox.cancel(connection, customer, OVERTAKEN)


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    if insert_rows_once(connection, table, rows) != len(rows):
        raise Raced


def note_in_group(connection: Connection, customers: Iterable[int]) -> None:
    """Write down that these people are in the group."""
    connection.execute(_IN_GROUP, {"ids": list(customers)})


def _customers(sales: Sequence[Sale]) -> list[int]:
    return sorted({sale.customer for sale in sales if sale.customer})


def _row(customer: int, membership: Membership) -> dict[str, Any]:
    return {
        "customer_id": customer,
        "transaction_hash": membership.transaction_hash,
        "plan_id": membership.plan_id,
        "start_date": membership.start_date,
        "end_date": membership.end_date,
        "duration": membership.duration,
        "expired_at": membership.expired_at,
    }


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_LOCK = (
    select(TELEGRAM_USER.c.chat_id)
    .where(TELEGRAM_USER.c.chat_id.in_(_IDS))
    .order_by(TELEGRAM_USER.c.chat_id)
    .with_for_update(key_share=True)
)
_CLAIMS = select(
    PAYMENT.c.id,
    PAYMENT.c.transaction_hash,
    PAYMENT.c.customer_id,
    PAYMENT.c.plan_id,
    PAYMENT.c.status,
).where(PAYMENT.c.transaction_hash.in_(bindparam("hashes", expanding=True)))
_STANDING = (
    select(SUBSCRIPTION, IS_IMPORTED.label("is_imported"), PAYMENT.c.period_start)
    .outerjoin(
        PAYMENT,
        and_(
            PAYMENT.c.transaction_hash == SUBSCRIPTION.c.transaction_hash,
            PAYMENT.c.status == "accepted",
        ),
    )
    .where(SUBSCRIPTION.c.customer_id.in_(_IDS))
)
_ACCEPT = (
    update(PAYMENT)
    .where(PAYMENT.c.id == bindparam("payment"), PAYMENT.c.status == "refused")
    .returning(PAYMENT.c.id)
)
_IN_GROUP = (
    update(TELEGRAM_USER)
    .where(TELEGRAM_USER.c.chat_id.in_(_IDS), ~TELEGRAM_USER.c.at_private_group)
    .values(at_private_group=True)
)
