"""What the original has sold: each hash is burnt for ever, and paid days become a membership.

A hash that bought anything here is left alone, so an import may be repeated: only payments that are
new bring days. No end ever moves back, and nobody is told.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.from_django.merge import Membership, merged
from buffettsbot.core.from_django.rows import NOBODY, Odd, Sale, read_sale
from buffettsbot.core.from_django.run import Run, Tally
from buffettsbot.core.from_django.source import RawSale
from buffettsbot.core.members.notices import OVERTAKEN
from buffettsbot.core.members.standing import REPLACE, Raced
from buffettsbot.core.offers.plans import HIGHEST_PRICE
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.models import PAYMENT, PLAN, SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.storage.statements import insert_once, insert_rows_once

IMPORTED = "imported"
# The ledger names a plan of ours always; a payment for none of ours is entered under this one.
UNKNOWN_PLAN = "1 month"


def bring_sales(run: Run, raws: Sequence[RawSale]) -> None:
    """Burn the hashes of a page of subscriptions, and enter the memberships."""
    sales: list[Sale] = []
    odd: list[Odd] = []
    for raw in raws:
        sale, oddities = read_sale(raw, run.now)
        odd += oddities
        first = run.hashes.get(sale.transaction_hash)
        if first is None:
            run.hashes[sale.transaction_hash] = f"user {sale.customer or 'unknown'}"
            sales.append(sale)
        else:
            detail = f"user {sale.customer or 'unknown'}; before {first}"
            odd.append(Odd("hash-shared", f"subscription {sale.spelled}", detail))

    def enter(connection: Connection, tally: Tally) -> bool:
        tally.odd += odd
        tally.counts.update(sales_read=len(raws), sales_left_out=len(raws) - len(sales))
        page = _Page(connection, run, tally)
        page.bring(sales)
        return bool(page.payments)

    run.page(enter)


class _Page:
    """A page at work, in its transaction."""

    def __init__(self, connection: Connection, run: Run, tally: Tally) -> None:
        self.connection, self.run, self.tally = connection, run, tally
        self.payments: list[dict[str, Any]] = []
        self.reopened: dict[str, int] = {}

    def bring(self, sales: Sequence[Sale]) -> None:
        self._lock(sales)
        self.plans = self._plans(sales)
        known = self._known(sales)
        self.before = self._memberships(sales)
        self.after = dict(self.before)
        in_group = set()
        for sale in sales:
            rows = known.get(sale.transaction_hash, [])
            live = next((row for row in rows if row.status != "refused"), None)
            if live is not None:
                self._leave(sale, live)
                continue
            self._burn(sale, rows)
            if sale.customer is not None and sale.end is not None:
                self._extend(sale.customer, sale, sale.end)
                if sale.at_private_group:
                    in_group.add(sale.customer)
            else:
                self.tally.counts["sales_burnt"] += 1
        if not self.run.dry_run:
            self._write(sales, in_group)

    def _lock(self, sales: Sequence[Sale]) -> None:
        """A claim locks its customer first; so does the import, and nobody deadlocks."""
        if self.run.dry_run:
            return
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
        insert_rows_once(self.connection, TELEGRAM_USER, strangers)
        self.connection.execute(_LOCK, {"ids": _customers(sales)})

    def _plans(self, sales: Sequence[Sale]) -> dict[str, int]:
        """Return the plans' ids by period; one that the original has lost comes back, retired."""
        query = select(PLAN.c.period, PLAN.c.id)
        plans = dict(self.connection.execute(query).all())
        for sale in sales:
            period = sale.period or UNKNOWN_PLAN
            if period not in plans and not self.run.dry_run:
                price = min(max(sale.price, 1), HIGHEST_PRICE)
                row = {"period": period, "price": price, "is_active": False}
                number = insert_once(self.connection, PLAN, row)
                if number is None:
                    raise Raced
                plans[period] = number
            plans.setdefault(period, 0)
        return plans

    def _known(self, sales: Sequence[Sale]) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = {}
        named = {"hashes": [sale.transaction_hash for sale in sales]}
        for row in self.connection.execute(_CLAIMS, named):
            rows.setdefault(row.transaction_hash, []).append(row)
        return rows

    def _memberships(self, sales: Sequence[Sale]) -> dict[int, Membership]:
        found = self.connection.execute(_STANDING, {"ids": _customers(sales)})
        return {
            row.customer_id: Membership(
                row.transaction_hash,
                row.plan_id,
                row.start_date,
                row.end_date,
                row.duration,
                row.expired_at,
                imported=bool(row.evidence) and row.evidence[0].get("source") == IMPORTED,
                renewed=row.period_start is not None and row.period_start > row.start_date,
            )
            for row in found
        }

    def _leave(self, sale: Sale, live: Any) -> None:
        """The hash is alive here: it has bought, or is about to."""
        row, kind = f"subscription {sale.spelled}", ""
        if live.customer_id != (sale.customer or NOBODY):
            kind, detail = "hash-used-here", f"here user {live.customer_id}"
            detail = f"there user {sale.customer}, {detail}"
        elif live.status != "accepted":
            kind, detail = "hash-open-here", f"user {sale.customer}"
        else:
            standing = self.before.get(sale.customer or NOBODY)
            if standing and sale.end and sale.end > standing.end_date:
                kind = "sold-again"
                detail = f"there until {_day(sale.end)}, here until {_day(standing.end_date)}"
        if kind:
            self.tally.odd.append(Odd(kind, row, detail))
        stays = kind in ("", "sold-again")
        self.tally.counts["sales_known" if stays else "sales_left_out"] += 1

    def _burn(self, sale: Sale, rows: Sequence[Any]) -> None:
        """Enter an accepted payment: from now on the hash buys nothing."""
        customer = sale.customer or NOBODY
        plan = self.plans[sale.period or UNKNOWN_PLAN]
        for row in rows:
            if (row.customer_id, row.plan_id) == (customer, plan):
                self.reopened[sale.transaction_hash] = row.id
        self.payments.append(
            {
                "transaction_hash": sale.transaction_hash,
                "customer_id": customer,
                "plan_id": plan,
                "price": sale.price,
                "status": "accepted",
                "reason": Reason.ACCEPTED,
                "claimed_at": sale.start,
                "decided_at": sale.start,
                "attempts": 0,
                "next_check_at": None,
                "period_start": sale.start,
                "period_end": sale.end or sale.start,
                "evidence": [{"source": IMPORTED, "why": f"sold by the original: {sale.spelled}"}],
            }
        )

    def _extend(self, customer: int, sale: Sale, end: datetime) -> None:
        plan = self.plans[sale.period] if sale.period else None
        bought = Membership(sale.transaction_hash, plan, sale.start, end, sale.seconds)
        standing = self.after.get(customer)
        after = merged(standing, bought)
        over, row = after.end_date <= self.run.now, f"user {customer}"
        if after is standing:
            self.tally.counts["sales_covered"] += 1
            return
        if over and sale.at_private_group:
            self.tally.odd.append(Odd("ended-in-group", row, f"ended {_day(after.end_date)}"))
        elif over:
            after = replace(after, expired_at=after.end_date)
        elif not sale.at_private_group:
            self.tally.odd.append(Odd("paid-not-in-group", row, f"until {_day(after.end_date)}"))
        self.after[customer] = after
        fate = "sales_ended" if over else "sales_renewed" if standing else "sales_new"
        self.tally.counts[fate] += 1

    def _write(self, sales: Sequence[Sale], in_group: set[int]) -> None:
        fresh = [p for p in self.payments if p["transaction_hash"] not in self.reopened]
        if insert_rows_once(self.connection, PAYMENT, fresh) != len(fresh):
            raise Raced
        for payment in self.payments:
            if payment["transaction_hash"] in self.reopened:
                seen = {"payment": self.reopened[payment["transaction_hash"]]}
                if self.connection.execute(_ACCEPT, payment | seen).first() is None:
                    raise Raced
        changed = {c: m for c, m in self.after.items() if m is not self.before.get(c)}
        entered = [
            _row(customer, membership)
            for customer, membership in changed.items()
            if customer not in self.before
        ]
        if insert_rows_once(self.connection, SUBSCRIPTION, entered) != len(entered):
            raise Raced
        for customer, membership in changed.items():
            if customer in self.before:
                self._replace(customer, membership)
        running = [c for c in changed if c in in_group and changed[c].expired_at is None]
        self.connection.execute(_IN_GROUP, {"ids": running})

    def _replace(self, customer: int, membership: Membership) -> None:
        before = self.before[customer]
        seen = {
            "customer": customer,
            "seen_hash": before.transaction_hash,
            "seen_end": before.end_date,
            "seen_expiry": before.expired_at,
        }
        if self.connection.execute(REPLACE, _row(customer, membership) | seen).first() is None:
            raise Raced
        outbox.cancel(self.connection, customer, OVERTAKEN)


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


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


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
    select(SUBSCRIPTION, PAYMENT.c.evidence, PAYMENT.c.period_start)
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
