"""What the original has sold: each hash is burnt for ever, and paid days become a membership.

A hash that bought anything here is left alone, so an import may be repeated: only payments that are
new bring days. No end ever moves back, and nobody is told.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.from_django import books
from buffettsbot.core.from_django.merge import Membership, merged
from buffettsbot.core.from_django.oddities import Odd
from buffettsbot.core.from_django.rows import NOBODY, Sale, read_sale
from buffettsbot.core.from_django.run import Run, Tally
from buffettsbot.core.from_django.source import RawSale


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
        if not run.dry_run:
            books.lock_customers(connection, sales)
        page = _Page(connection, run, tally, sales)
        for sale in sales:
            page.bring(sale)
        if not run.dry_run:
            page.write(connection)
        return page.is_news

    run.page(enter)


class _Page:
    """A page at work: what the books say of it, and what is to be entered in them."""

    def __init__(
        self, connection: Connection, run: Run, tally: Tally, sales: Sequence[Sale]
    ) -> None:
        self.now, self.tally = run.now, tally
        self.plans = books.plans_for(connection, sales, dry_run=run.dry_run)
        self.claims = books.claims_of(connection, sales)
        self.before = books.memberships_of(connection, sales)
        self.after = dict(self.before)
        self.new_payments: list[dict[str, Any]] = []
        self.refused_payments: dict[int, dict[str, Any]] = {}
        self.in_group: set[int] = set()

    @property
    def is_news(self) -> bool:
        """Whether anything is to be entered."""
        return bool(self.new_payments or self.refused_payments)

    def bring(self, sale: Sale) -> None:
        """Decide what becomes of a sale."""
        claims = self.claims[sale.transaction_hash]
        alive = [claim for claim in claims if claim.status != "refused"]
        if alive:
            self._leave(sale, alive[0])
            return
        self._burn(sale, claims)
        if sale.customer is None or sale.end is None:
            self.tally.counts["sales_burnt"] += 1
            return
        self._extend(sale.customer, sale, sale.end)
        if sale.at_private_group:
            self.in_group.add(sale.customer)

    def _leave(self, sale: Sale, claim: Any) -> None:
        """The hash is alive here: it has bought, or is about to."""
        customer, row = sale.customer or NOBODY, f"subscription {sale.spelled}"
        if claim.customer_id != customer:
            detail = f"there user {sale.customer}, here user {claim.customer_id}"
            self.tally.odd.append(Odd("hash-used-here", row, detail))
            self.tally.counts["sales_left_out"] += 1
            return
        if claim.status != "accepted":
            self.tally.odd.append(Odd("hash-open-here", row, f"user {sale.customer}"))
            self.tally.counts["sales_left_out"] += 1
            return
        standing = self.before.get(customer)
        if standing and sale.end and sale.end > standing.end_date:
            detail = f"there until {_day(sale.end)}, here until {_day(standing.end_date)}"
            self.tally.odd.append(Odd("sold-again", row, detail))
        self.tally.counts["sales_known"] += 1

    def _burn(self, sale: Sale, refused: Sequence[Any]) -> None:
        """Enter an accepted payment: from now on the hash buys nothing."""
        customer = sale.customer or NOBODY
        plan = self.plans[sale.period or books.UNKNOWN_PLAN]
        payment = {
            "transaction_hash": sale.transaction_hash,
            "customer_id": customer,
            "plan_id": plan,
            "price": sale.price,
            "status": "accepted",
            "reason": Reason.ACCEPTED,
            "claimed_at": sale.start,
            "decided_at": sale.start,
            "attempts": 0,  # by which it is known, see IS_IMPORTED
            "next_check_at": None,
            "period_start": sale.start,
            "period_end": sale.end or sale.start,
            "evidence": [{"source": "imported", "why": f"sold by the original: {sale.spelled}"}],
        }
        for claim in refused:
            if (claim.customer_id, claim.plan_id) == (customer, plan):
                self.refused_payments[claim.id] = payment
                return
        self.new_payments.append(payment)

    def _extend(self, customer: int, sale: Sale, end: datetime) -> None:
        """Give the customer the days that they bought."""
        plan = self.plans[sale.period] if sale.period else None
        bought = Membership(sale.transaction_hash, plan, sale.start, end, sale.seconds)
        standing = self.after.get(customer)
        after = merged(standing, bought)
        if after is standing:
            self.tally.counts["sales_covered"] += 1
            return
        row = f"user {customer}"
        if after.end_date > self.now:
            self.tally.counts["sales_renewed" if standing else "sales_new"] += 1
            if not sale.at_private_group:
                detail = f"until {_day(after.end_date)}"
                self.tally.odd.append(Odd("paid-not-in-group", row, detail))
        else:
            self.tally.counts["sales_ended"] += 1
            if sale.at_private_group:
                detail = f"ended {_day(after.end_date)}"
                self.tally.odd.append(Odd("ended-in-group", row, detail))
            else:
                after = replace(after, expired_at=after.end_date)
        self.after[customer] = after

    def write(self, connection: Connection) -> None:
        """Enter what was decided. Raises Raced."""
        books.enter_payments(connection, self.new_payments, self.refused_payments)
        changed = {c: m for c, m in self.after.items() if m is not self.before.get(c)}
        books.enter_memberships(connection, self.before, changed)
        running = {c for c, membership in changed.items() if membership.expired_at is None}
        books.note_in_group(connection, running & self.in_group)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
