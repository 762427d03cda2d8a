"""What is coming due: the running memberships by the day of their end, in the owner's zone."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from buffettsbot.core.ledger.months import midnights, seconds
from buffettsbot.core.members.standing import runs_at
from buffettsbot.core.money import MICRO
from buffettsbot.core.storage.models import PLAN, SUBSCRIPTION
from buffettsbot.core.storage.statements import PAGE

DUE_DAYS = 30


@dataclass
class DueDay:
    """How many memberships end on a day, and what they would bring, in micro-USDT."""

    day: date
    members: int = 0
    usdt: int = 0


def coming_due(connection: Connection, now: datetime, zone: ZoneInfo) -> list[DueDay]:
    """Return the next `DUE_DAYS` days, today included, each with what ends on it."""
    today = now.astimezone(zone).date()
    days = [today + timedelta(days=ahead) for ahead in range(DUE_DAYS + 1)]
    *begins, until = midnights(days, zone)
    query = (
        select(seconds(SUBSCRIPTION.c.end_date), func.coalesce(PLAN.c.price, 0))
        .outerjoin(PLAN, PLAN.c.id == SUBSCRIPTION.c.plan_id)
        .where(runs_at(now), SUBSCRIPTION.c.end_date < datetime.fromtimestamp(until, UTC))
        .execution_options(yield_per=PAGE)
    )
    due = [DueDay(day) for day in days[:-1]]
    for end, price in connection.execute(query):
        day = due[bisect_right(begins, end) - 1]
        day.members += 1
        day.usdt += price * MICRO
    return due
