"""The passes over all memberships walk the due ones in spans, in the order of their end.

A span holds at most `SPAN` of them, and each is handled in one short transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, tuple_

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import SUBSCRIPTION

SPAN = 2000

_END, _CUSTOMER = SUBSCRIPTION.c.end_date, SUBSCRIPTION.c.customer_id


@dataclass(frozen=True)
class Span:
    """Memberships by (end, customer): those after `after`, up to and with `upto`."""

    after: tuple[datetime, int] | None
    upto: tuple[datetime, int]

    @property
    def condition(self) -> ColumnElement[bool]:
        """The span as a condition on the subscription table."""
        key = tuple_(_END, _CUSTOMER)
        upto = key <= self.upto
        return upto if self.after is None else (key > self.after) & upto


def spans(db: Database, due: ColumnElement[bool], limit: int | None = None) -> Iterator[Span]:
    """Yield the spans that hold the memberships for which `due` is true now, up to `limit`."""
    after: tuple[datetime, int] | None = None
    left = limit
    while left is None or left > 0:
        size = SPAN if left is None else min(SPAN, left)
        page = select(_END, _CUSTOMER).where(due).order_by(_END, _CUSTOMER).limit(size)
        if after is not None:
            page = page.where(tuple_(_END, _CUSTOMER) > after)
        within = page.subquery()
        last = select(within).order_by(within.c.end_date.desc(), within.c.customer_id.desc())
        with db.read() as session:
            found = session.execute(last.limit(1)).first()
        if found is None:
            return
        upto = (found.end_date, found.customer_id)
        yield Span(after, upto)
        after = upto
        left = None if left is None else left - size
