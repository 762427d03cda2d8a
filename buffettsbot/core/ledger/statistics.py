"""How the business does: members, income and renewals by month, and what is coming due.

A few set-based statements in one snapshot; months and days are those of the owner's zone.

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

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    exists,
    extract,
    func,
    literal,
    null,
    or_,
    over,
    select,
)
from sqlalchemy.engine import Connection
from sqlalchemy.sql.selectable import Subquery

from buffettsbot.core.hashes import GRANT
from buffettsbot.core.money import MICRO
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PERIODS, PLAN, SUBSCRIPTION

RENEWAL_WINDOW = timedelta(days=14)
DUE_DAYS = 30


@dataclass(frozen=True)
class Month:
    """A calendar month. `income` in micro-USDT of so many `payments`; `members` at its end, or now;
    of the paid periods that `ended` (and 14 days have passed), how many were `followed`."""

    first: date
    income: int = 0
    payments: int = 0
    joined: int = 0
    renewed: int = 0
    left: int = 0
    members: int = 0
    ended: int = 0
    followed: int = 0
    waiting: int = 0

    @property
    def renewal_rate(self) -> float | None:
        """The share of what ended that was followed; None when nothing ended."""
        return rate(self.followed, self.ended)


@dataclass(frozen=True)
class DueDay:
    """How many memberships end on a day, and what they would bring, in micro-USDT."""

    day: date
    members: int = 0
    usdt: int = 0


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


def rate(part: int, whole: int) -> float | None:
    """Return a share to four decimals, None of nothing."""
    return round(part / whole, 4) if whole else None


def collect(db: Database, *, now: datetime, zone: ZoneInfo, months: int = 12) -> Statistics:
    """Count everything as it stands at `now`: the last so many months, this one included.

    Months before the first in which anything happened are left out. Raises Unavailable.
    """
    today = now.astimezone(zone).date()
    firsts = [_month_before(today, back) for back in range(months - 1, -2, -1)]
    bounds = _midnights(firsts, zone)
    days = [today + timedelta(days=ahead) for ahead in range(DUE_DAYS + 1)]
    counts: Counter[tuple[str, int]] = Counter()
    with db.snapshot() as connection:
        plans, granted = _members(connection, now)
        unknown_amounts = _count_income(connection, bounds, counts)
        _count_periods(connection, bounds, now, counts)
        _count_ends(connection, bounds, now, counts)
        due = _due(connection, days, _midnights(days, zone), now)
    return Statistics(
        now,
        zone,
        plans,
        granted,
        sum(counted for (name, _), counted in counts.items() if name == "income"),
        sum(counted for (name, _), counted in counts.items() if name == "payments"),
        unknown_amounts,
        _months(firsts[:-1], counts, sum(plans.values())),
        due,
    )


def _month_before(day: date, back: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - back, 12)
    return date(year, month + 1, 1)


def _midnights(days: Sequence[date], zone: ZoneInfo) -> list[datetime]:
    return [datetime.combine(day, time(), zone).astimezone(UTC) for day in days]


def _slot(
    moment: ColumnElement[Any], bounds: Sequence[datetime], first: int = -1
) -> ColumnElement[Any]:
    """The number of the span between two bounds that a moment is in, by halves; -1 before all."""
    if not bounds:
        return literal(first)
    half = len(bounds) // 2
    earlier = _slot(moment, bounds[:half], first)
    return case(
        (moment < bounds[half], earlier),
        else_=_slot(moment, bounds[half + 1 :], first + half + 1),
    )


def _counted(rows: Subquery, *sums: ColumnElement[Any]) -> Any:
    """Select the distinct rows, and of each how many there are, or these sums."""
    groups = [column for column in rows.c if column.name not in {"amount", "price"}]
    return select(*groups, *(sums or (func.count(),))).group_by(*groups)


def _running(now: datetime) -> ColumnElement[bool]:
    return and_(SUBSCRIPTION.c.expired_at.is_(None), SUBSCRIPTION.c.end_date > now)


_GRANTED = SUBSCRIPTION.c.transaction_hash.startswith(GRANT, autoescape=True)
_OF_PLAN = SUBSCRIPTION.outerjoin(PLAN, PLAN.c.id == SUBSCRIPTION.c.plan_id)


def _members(connection: Connection, now: datetime) -> tuple[dict[str | None, int], int]:
    rows = (
        select(PLAN.c.period, case((_GRANTED, 1), else_=0).label("granted"))
        .select_from(_OF_PLAN)
        .where(_running(now))
        .subquery()
    )
    plans: Counter[str | None] = Counter()
    granted = 0
    for period, is_granted, count in connection.execute(_counted(rows)):
        plans[period] += count
        granted += count * is_granted
    return {period: plans[period] for period in [*PERIODS, None] if plans[period]}, granted


def _count_income(
    connection: Connection, bounds: Sequence[datetime], counts: Counter[tuple[str, int]]
) -> int:
    """Count the accepted payments and what they brought; return of how many that is unknown."""
    arrived = func.coalesce(PAYMENT.c.paid_at, PAYMENT.c.decided_at)
    rows = (
        select(_slot(arrived, bounds).label("slot"), PAYMENT.c.amount)
        .where(PAYMENT.c.status == "accepted")
        .subquery()
    )
    amount, unknown = rows.c.amount, 0
    sums = _counted(rows, func.sum(amount), func.count(amount), func.count())
    for slot, income, payments, accepted in connection.execute(sums):
        counts["income", slot] += int(income or 0)
        counts["payments", slot] += payments
        unknown += accepted - payments
    return unknown


def _count_periods(
    connection: Connection,
    bounds: Sequence[datetime],
    now: datetime,
    counts: Counter[tuple[str, int]],
) -> None:
    """Count the paid periods: who joined, renewed or came back by them, and what followed them."""
    paid = _paid_periods()
    start, end, earlier = paid.c.period_start, paid.c.period_end, paid.c.earlier_end
    renewed = and_(earlier.is_not(None), or_(start > paid.c.decided_at, earlier >= start))
    came_back = and_(earlier.is_not(None), start <= paid.c.decided_at, earlier < start)
    gap = extract("epoch", paid.c.next_start) - extract("epoch", end)
    followed = or_(
        gap <= int(RENEWAL_WINDOW.total_seconds()), paid.c.next_start > paid.c.next_decided
    )
    fate = case(
        (end > now, "running"),
        (end > now - RENEWAL_WINDOW, "waiting"),
        (followed, "followed"),
        else_="lapsed",
    )
    rows = select(
        _slot(paid.c.decided_at, bounds).label("decided"),
        case((renewed, "renewed"), else_="joined").label("how"),
        case((came_back, _slot(earlier, bounds)), else_=null()).label("left"),
        _slot(end, bounds).label("ended"),
        fate.label("fate"),
    ).subquery()
    for decided, how, left, ended, became, count in connection.execute(_counted(rows)):
        counts[how, decided] += count
        counts[became, ended] += count
        if left is not None:
            counts["left", left] += count


def _paid_periods() -> Subquery:
    """The periods that members ever bought, each with the end of the one before and the next.

    A period without length is a hash that the import only burnt.
    """
    customer, start, end = PAYMENT.c.customer_id, PAYMENT.c.period_start, PAYMENT.c.period_end

    def neighbour(pick: Any, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return over(
            pick(column, type_=column.type),
            partition_by=customer,
            order_by=(start, PAYMENT.c.id),
        )

    return (
        select(
            PAYMENT.c.decided_at,
            start,
            end,
            neighbour(func.lag, end).label("earlier_end"),
            neighbour(func.lead, start).label("next_start"),
            neighbour(func.lead, PAYMENT.c.decided_at).label("next_decided"),
        )
        .join(SUBSCRIPTION, SUBSCRIPTION.c.customer_id == customer)
        .where(PAYMENT.c.status == "accepted", end > start)
        .subquery()
    )


def _count_ends(
    connection: Connection,
    bounds: Sequence[datetime],
    now: datetime,
    counts: Counter[tuple[str, int]],
) -> None:
    """Count who left for good so far, and who joined by a grant and never paid."""
    ever_paid = exists().where(
        PAYMENT.c.customer_id == SUBSCRIPTION.c.customer_id,
        PAYMENT.c.status == "accepted",
        PAYMENT.c.period_end > PAYMENT.c.period_start,
    )
    for name, column, where in (
        ("left", SUBSCRIPTION.c.end_date, ~_running(now)),
        ("joined", SUBSCRIPTION.c.start_date, and_(_GRANTED, ~ever_paid)),
    ):
        rows = select(_slot(column, bounds).label("slot")).where(where).subquery()
        for slot, count in connection.execute(_counted(rows)):
            counts[name, slot] += count


def _due(
    connection: Connection, days: Sequence[date], bounds: Sequence[datetime], now: datetime
) -> list[DueDay]:
    ends = SUBSCRIPTION.c.end_date
    rows = (
        select(_slot(ends, bounds).label("slot"), PLAN.c.price)
        .select_from(_OF_PLAN)
        .where(_running(now), ends < bounds[-1])
        .subquery()
    )
    found = {
        slot: DueDay(days[slot], count, int(price or 0) * MICRO)
        for slot, count, price in connection.execute(
            _counted(rows, func.count(), func.sum(rows.c.price))
        )
    }
    return [found.get(slot, DueDay(day)) for slot, day in enumerate(days[:-1])]


def _months(firsts: Sequence[date], counts: Counter[tuple[str, int]], members: int) -> list[Month]:
    """Return the months; how many members each ended with is counted back from today's."""
    slots = range(len(firsts))
    growth = [counts["joined", slot] - counts["left", slot] for slot in slots]
    standing = list(
        accumulate(reversed(growth[1:]), lambda after, grown: after - grown, initial=members)
    )
    months = [
        Month(
            firsts[slot],
            income=counts["income", slot],
            payments=counts["payments", slot],
            joined=counts["joined", slot],
            renewed=counts["renewed", slot],
            left=counts["left", slot],
            members=standing[-1 - slot],
            ended=counts["followed", slot] + counts["lapsed", slot],
            followed=counts["followed", slot],
            waiting=counts["waiting", slot],
        )
        for slot in slots
    ]
    begun = next((slot for slot in slots if months[slot] != Month(firsts[slot])), len(months) - 1)
    return months[begun:]
