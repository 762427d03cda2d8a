"""How the business does: members, income and renewals by month, and what is coming due.

A few statements in one snapshot; months and days are those of the owner's zone.

* Income is what the chain was seen to move to the wallet for accepted payments, in the month it
  arrived. Payments without such an amount (imported from the original, or approved by hand before
  the chain answered) and grants are no income; `unknown_amounts` says how many payments those are.
* Joined: a membership began, bought or granted, when none was running. Renewed: a period was bought
  while, or just as, one ran out. Left: a membership ended. So members = joined - left, always.
* The renewal rate of a month: of the paid periods that ended in it, the share followed by another
  paid period of the same customer that begins within 14 days, or was bought while a grant bridged
  the gap. A period counts only once its 14 days are over; until then it is `waiting`.
* Coming due: running memberships by the day of their end, at today's prices of their plans (a
  retired plan's last price; nothing for those without a plan).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import exists, func, select
from sqlalchemy.engine import Connection

from buffettsbot.core.hashes import GRANT
from buffettsbot.core.ledger.coming_due import DueDay, coming_due
from buffettsbot.core.ledger.months import Month, Months, rate, seconds
from buffettsbot.core.members.standing import runs_at
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PERIODS, PLAN, SUBSCRIPTION
from buffettsbot.core.storage.statements import PAGE

RENEWAL_WINDOW = timedelta(days=14).total_seconds()


@dataclass(frozen=True)
class Statistics:
    """What was counted at a moment. `income` and `payments` are of all time, `plans` the members by
    plan (None: without one), `granted` those whose membership an admin gave last."""

    at: datetime
    zone: ZoneInfo
    plans: dict[str | None, int]
    granted: int
    income: int
    payments: int
    unknown_amounts: int
    months: list[Month]
    due: list[DueDay]

    @property
    def members(self) -> int:
        """How many members there are now."""
        return sum(self.plans.values())

    @property
    def renewal_rate(self) -> float | None:
        """The renewal rate of all the months together."""
        months = self.months
        return rate(sum(month.followed for month in months), sum(month.ended for month in months))

    @property
    def is_empty(self) -> bool:
        """Whether nobody was ever a member and nothing was ever paid."""
        counted = self.payments + self.unknown_amounts + self.members
        return not counted and not any(month.left for month in self.months)


def collect(db: Database, *, now: datetime, zone: ZoneInfo, months: int = 12) -> Statistics:
    """Count everything as it stands at `now`: the last so many months, this one included.

    Months before the first in which anything happened are left out. Raises Unavailable.
    """
    counted = Months(now.astimezone(zone).date(), months, zone)
    with db.snapshot() as connection:
        plans, granted = _members(connection, now)
        unknown_amounts = _count_payments(connection, now.timestamp(), counted)
        _count_memberships(connection, now, counted)
        due = coming_due(connection, now, zone)
    return Statistics(
        now,
        zone,
        plans,
        granted,
        income=sum(month.income for month in counted.ever),
        payments=sum(month.payments for month in counted.ever),
        unknown_amounts=unknown_amounts,
        months=counted.shown(sum(plans.values())),
        due=due,
    )


_START, _END = seconds(PAYMENT.c.period_start), seconds(PAYMENT.c.period_end)
_CUSTOMERS = select(SUBSCRIPTION.c.customer_id).execution_options(yield_per=PAGE)
_IS_GRANT = SUBSCRIPTION.c.transaction_hash.startswith(GRANT, autoescape=True)


def _members(connection: Connection, now: datetime) -> tuple[dict[str | None, int], int]:
    """Return how many members each plan has, and how many of all were given their membership."""
    query = (
        select(PLAN.c.period, func.count(), func.count().filter(_IS_GRANT))
        .select_from(SUBSCRIPTION)
        .outerjoin(PLAN, PLAN.c.id == SUBSCRIPTION.c.plan_id)
        .where(runs_at(now))
        .group_by(PLAN.c.period)
    )
    plans: dict[str | None, int] = {}
    granted = 0
    for period, members, given in connection.execute(query):
        plans[period] = members
        granted += given
    return {period: plans[period] for period in [*PERIODS, None] if period in plans}, granted


class _Payment(NamedTuple):
    """An accepted payment: when the money came, when it was decided, and the period it bought."""

    customer_id: int
    amount: int | None
    arrived: float
    decided: float
    start: float
    end: float


def _count_payments(connection: Connection, now: float, months: Months) -> int:
    """Count the accepted payments and what they brought; return of how many that is unknown."""
    members = set(connection.scalars(_CUSTOMERS))
    unknown_amounts = 0
    for customer_id, payments in groupby(_payments(connection), attrgetter("customer_id")):
        periods = []
        for payment in payments:
            if payment.amount is None:
                unknown_amounts += 1
            else:
                month = months.at(payment.arrived)
                month.payments += 1
                month.income += payment.amount
            if payment.end > payment.start:  # else a hash that the import only burnt
                periods.append(payment)
        if customer_id in members:  # the original kept payments of memberships that are gone
            _count_periods(periods, now, months)
    return unknown_amounts


def _payments(connection: Connection) -> Iterator[_Payment]:
    """Yield the accepted payments, customer by customer, each one's in the order of the periods."""
    query = (
        select(
            PAYMENT.c.customer_id,
            PAYMENT.c.amount,
            seconds(func.coalesce(PAYMENT.c.paid_at, PAYMENT.c.decided_at)),
            seconds(PAYMENT.c.decided_at),
            _START,
            _END,
        )
        .where(PAYMENT.c.status == "accepted")
        # A sum, so that the rows are sorted: to look each up by the index on customers takes twice
        # as long (a million payments: 8 s, not 4).
        .order_by(PAYMENT.c.customer_id + 0, PAYMENT.c.period_start, PAYMENT.c.id)
        .execution_options(yield_per=PAGE)
    )
    return map(_Payment._make, connection.execute(query))


def _count_periods(periods: list[_Payment], now: float, months: Months) -> None:
    """Count the periods that one customer bought: how each began, and what followed it."""
    befores, afters = [None, *periods], [*periods[1:], None]
    for earlier, period, later in zip(befores, periods, afters, strict=False):
        _count_beginning(period, earlier, months)
        _count_end(period, later, now, months)


def _count_beginning(period: _Payment, earlier: _Payment | None, months: Months) -> None:
    month = months.at(period.decided)
    if earlier is None:
        month.joined += 1
    elif period.start > period.decided or earlier.end >= period.start:
        month.renewed += 1
    else:
        month.joined += 1
        months.at(earlier.end).left += 1


def _count_end(period: _Payment, later: _Payment | None, now: float, months: Months) -> None:
    if period.end > now:
        return
    month = months.at(period.end)
    if period.end > now - RENEWAL_WINDOW:
        month.waiting += 1
        return
    month.ended += 1
    if later and (later.start - period.end <= RENEWAL_WINDOW or later.start > later.decided):
        month.followed += 1


def _count_memberships(connection: Connection, now: datetime, months: Months) -> None:
    """Count who left for good so far, and who joined by a grant and never paid."""
    ended = select(seconds(SUBSCRIPTION.c.end_date)).where(~runs_at(now))
    for end in connection.scalars(ended.execution_options(yield_per=PAGE)):
        months.at(end).left += 1
    ever_paid = exists().where(
        PAYMENT.c.customer_id == SUBSCRIPTION.c.customer_id,
        PAYMENT.c.status == "accepted",
        _END > _START,
    )
    given = select(seconds(SUBSCRIPTION.c.start_date)).where(_IS_GRANT, ~ever_paid)
    for start in connection.scalars(given.execution_options(yield_per=PAGE)):
        months.at(start).joined += 1
