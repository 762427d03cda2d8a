"""Who is in: the membership of each customer as it stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, true, tuple_

from buffettsbot.core.errors import NoMembership
from buffettsbot.core.members.standing import runs_at
from buffettsbot.core.members.users import NAMED, find, parse_person
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PLAN, SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.storage.statements import paged

STATUSES = ("active", "expiring", "expired", "all")
SOON = timedelta(days=7)


@dataclass(frozen=True)
class Member:
    """A customer and their membership. Price in whole USDT; a grant may have neither plan nor
    price."""

    chat_id: int
    telegram_username: str | None
    plan: str | None
    price: int | None
    transaction_hash: str
    start_date: datetime
    end_date: datetime
    status: str
    at_private_group: bool


_MEMBERS = (
    select(
        TELEGRAM_USER.c.chat_id,
        TELEGRAM_USER.c.telegram_username,
        PLAN.c.period,
        PLAN.c.price,
        SUBSCRIPTION.c.transaction_hash,
        SUBSCRIPTION.c.start_date,
        SUBSCRIPTION.c.end_date,
        SUBSCRIPTION.c.expired_at,
        TELEGRAM_USER.c.at_private_group,
    )
    .select_from(SUBSCRIPTION)
    .join(TELEGRAM_USER, TELEGRAM_USER.c.chat_id == SUBSCRIPTION.c.customer_id)
    .outerjoin(PLAN, PLAN.c.id == SUBSCRIPTION.c.plan_id)
)
_MEMBER = {way: _MEMBERS.where(named) for way, named in NAMED.items()}


def _member(row: Any, now: datetime, soon: timedelta) -> Member:
    chat_id, username, plan, price, transaction_hash, start, end, expired_at, at_group = row
    expired = expired_at is not None or end <= now
    status = "expired" if expired else "expiring" if end - now <= soon else "active"
    return Member(chat_id, username, plan, price, transaction_hash, start, end, status, at_group)


def find_member(db: Database, person: str | int, *, now: datetime) -> Member | None:
    """Return a person's membership, running or not; None when they never had one.

    Raises UnknownUser.
    """
    way, named = parse_person(person)
    with db.read() as session:
        row = session.connection().execute(_MEMBER[way], named).first()
        if row is not None:
            return _member(row, now, SOON)
        find(session, person)
    return None


def running_member(db: Database, person: str | int, *, now: datetime) -> Member:
    """Return a running membership. Raises UnknownUser, or NoMembership."""
    member = find_member(db, person, now=now)
    if member is None or member.status == "expired":
        raise NoMembership(f"{str(person)[:40]!r} has no membership that runs.")
    return member


def list_members(
    db: Database,
    *,
    now: datetime,
    status: str = "active",
    within: timedelta | None = None,
    plan: str | None = None,
    limit: int | None = None,
) -> Iterator[Member]:
    """Yield memberships by their end, page by page; `within` shows those that end so soon.

    `active` is everyone whose time runs, those who expire soon included.
    """
    soon = within or SOON
    where = and_(true(), *_conditions(status, within, plan, now, soon))
    return members_where(db, where, now=now, soon=soon, limit=limit)


def members_where(
    db: Database,
    where: ColumnElement[bool],
    *,
    now: datetime,
    soon: timedelta = SOON,
    limit: int | None = None,
) -> Iterator[Member]:
    """Yield the memberships for which a condition on the tables is true, by their end."""
    end, customer = SUBSCRIPTION.c.end_date, SUBSCRIPTION.c.customer_id
    query = _MEMBERS.where(where).order_by(end, customer)

    def fetch(last: Member | None, size: int) -> list[Member]:
        page = query
        if last is not None:
            page = query.where(tuple_(end, customer) > (last.end_date, last.chat_id))
        with db.read() as session:
            return [_member(row, now, soon) for row in session.execute(page.limit(size))]

    return paged(fetch, limit)


def _conditions(
    status: str, within: timedelta | None, plan: str | None, now: datetime, soon: timedelta
) -> list[ColumnElement[bool]]:
    end, expired_at = SUBSCRIPTION.c.end_date, SUBSCRIPTION.c.expired_at
    running = runs_at(now)
    wanted: list[ColumnElement[bool]] = []
    if status == "expired":
        wanted.append(or_(expired_at.is_not(None), end <= now))
    elif status == "expiring" or within is not None:
        wanted.append(and_(running, end <= now + soon))
    elif status == "active":
        wanted.append(running)
    if plan is not None:
        wanted.append(PLAN.c.period == plan)
    return wanted
