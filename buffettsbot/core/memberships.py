"""Who is in: the membership of each customer as it stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, tuple_, update
from sqlmodel import Session, col

from buffettsbot.core.db import Database, insert_once, paged
from buffettsbot.core.errors import NoMembership
from buffettsbot.core.models import Plan, Subscription, TelegramUser
from buffettsbot.core.users import is_person, unknown

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


class Raced(Exception):
    """Another transaction changed the row first; do the whole again."""


def extend(
    session: Session,
    *,
    customer_id: int,
    plan_id: int,
    transaction_hash: str,
    duration: timedelta,
    now: datetime,
) -> tuple[datetime, datetime, bool]:
    """Start or renew a membership; return the paid period, and whether one was still running.

    Paid days are never lost: `end = max(now, current end) + duration`. Raises Raced.
    """
    standing = session.execute(
        select(
            col(Subscription.transaction_hash),
            col(Subscription.end_date),
            col(Subscription.expired_at),
        ).where(col(Subscription.customer_id) == customer_id)
    ).first()
    running = standing is not None and standing.expired_at is None and standing.end_date > now
    period_start = standing.end_date if standing and running else now
    row = {
        "transaction_hash": transaction_hash,
        "plan_id": plan_id,
        "start_date": now,
        "end_date": period_start + duration,
        "duration": int(duration.total_seconds()),
        "expired_at": None,
    }
    if standing is None:
        row["customer_id"] = customer_id
        changed = insert_once(session, Subscription, row, col(Subscription.customer_id))
    else:
        changed = list(
            session.execute(
                update(Subscription)
                .where(
                    col(Subscription.customer_id) == customer_id,
                    col(Subscription.transaction_hash) == standing.transaction_hash,
                    col(Subscription.end_date) == standing.end_date,
                    col(Subscription.expired_at).is_not_distinct_from(standing.expired_at),
                )
                .values(**row)
                .returning(col(Subscription.customer_id))
            ).all()
        )
    if not changed:
        raise Raced
    return period_start, period_start + duration, running


def _members() -> "Select[*tuple[Any, ...]]":
    return (
        select(
            col(TelegramUser.chat_id),
            col(TelegramUser.telegram_username),
            col(Plan.period),
            col(Plan.price),
            col(Subscription.transaction_hash),
            col(Subscription.start_date),
            col(Subscription.end_date),
            col(Subscription.expired_at),
            col(TelegramUser.at_private_group),
        )
        .select_from(Subscription)
        .join(TelegramUser, col(TelegramUser.chat_id) == col(Subscription.customer_id))
        .outerjoin(Plan, col(Plan.id) == col(Subscription.plan_id))
    )


def _member(row: Any, now: datetime, soon: timedelta) -> Member:
    fields = dict(row._mapping)
    fields["plan"] = fields.pop("period")
    expired = fields.pop("expired_at") is not None or row.end_date <= now
    status = "expired" if expired else "expiring" if row.end_date - now <= soon else "active"
    return Member(**fields, status=status)


def find_member(db: Database, person: str | int, *, now: datetime) -> Member | None:
    """Return a person's membership, running or not; None when they never had one.

    Raises UnknownUser.
    """
    with db.read() as session:
        row = session.execute(_members().where(is_person(person))).first()
        if row is not None:
            return _member(row, now, SOON)
        if (
            session.scalars(select(col(TelegramUser.chat_id)).where(is_person(person))).first()
            is None
        ):
            raise unknown(person)
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
    end, customer = col(Subscription.end_date), col(Subscription.customer_id)
    query = _members().where(*_conditions(status, within, plan, now, soon)).order_by(end, customer)

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
    end, expired_at = col(Subscription.end_date), col(Subscription.expired_at)
    running = and_(expired_at.is_(None), end > now)
    wanted: list[ColumnElement[bool]] = []
    if status == "expired":
        wanted.append(or_(expired_at.is_not(None), end <= now))
    elif status == "expiring" or within is not None:
        wanted.append(and_(running, end <= now + soon))
    elif status == "active":
        wanted.append(running)
    if plan is not None:
        wanted.append(col(Plan.period) == plan)
    return wanted
