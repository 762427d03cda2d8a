"""The expire pass: memberships whose time is up end, and everyone concerned hears of it.

Set-based, a span at a time. Nobody with an open payment is touched, and a run that would end an
abnormal share of the members (a wrong clock, a bad import) stops and asks: promise 6.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.errors import NotAllowed
from buffettsbot.core.members.memberships import Member, members_where
from buffettsbot.core.members.notices import REMINDER_KINDS, members_to_tell, notice
from buffettsbot.core.members.spans import Span, spans
from buffettsbot.core.members.standing import has_undecided
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.outbox.staff import Digest
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.storage.passes import Report

GUARD_FLOOR = 20


def expire(
    db: Database,
    *,
    now: datetime,
    guard: float,
    group: bool,
    force: bool = False,
    limit: int | None = None,
    watch: Callable[[Report], None] = lambda report: None,
) -> Report:
    """End every membership whose time is up; queue removal, word to the customer, admin notices.

    `guard`: the share of current members above which, when they are also more than 20, nothing is
    done unless `force`. `group`: whether the program removes people from the group itself. Raises
    NotAllowed when the guard stops it. Safe to repeat, to race and to kill at any moment.
    """
    if not force:
        _check_guard(db, now, guard)
    report = Report("expire")
    digest = Digest("digest-expire")
    for span in spans(db, _due(now), limit):
        with db.begin() as session:
            connection = session.connection()
            ended = _end(connection, span, now, group=group)
            if ended:
                digest.add(connection, {"ended": ended}, now)
        report.due += ended
        report.done += ended
        watch(report)
    return report


def due_expiries(db: Database, *, now: datetime, limit: int | None = None) -> Iterator[Member]:
    """Yield whose membership would end at `now`; changes nothing."""
    return members_where(db, _due(now), now=now, limit=limit)


def _due(now: datetime) -> ColumnElement[bool]:
    """Those whose time is up, but for whoever has a payment that is not decided."""
    return and_(
        SUBSCRIPTION.c.expired_at.is_(None),
        SUBSCRIPTION.c.end_date <= now,
        ~has_undecided(SUBSCRIPTION.c.customer_id),
    )


def is_abnormal(leaving: int, of: int, guard: float) -> bool:
    """Say whether so many are too many to go at once; a few may always."""
    return leaving > GUARD_FLOOR and leaving > guard * of


def _check_guard(db: Database, now: datetime, guard: float) -> None:
    with db.read() as session:
        due = session.scalar(select(func.count()).select_from(SUBSCRIPTION).where(_due(now)))
        if due is None or due <= GUARD_FLOOR:
            return
        current = session.scalar(
            select(func.count())
            .select_from(SUBSCRIPTION)
            .where(SUBSCRIPTION.c.expired_at.is_(None))
        )
    if is_abnormal(due, current or 0, guard):
        raise NotAllowed(
            f"This would end {due} of {current} memberships, more than the guard of {guard:.0%} "
            "allows. Check the clock and look with: buffettsbot pass expire --dry-run. "
            "If it is right: buffettsbot pass expire --force"
        )


def _end(connection: Connection, span: Span, now: datetime, *, group: bool) -> int:
    """End a span's due memberships and queue every effect, in one transaction; return how many."""
    due = and_(span.condition, _due(now))
    # A claim locks the customer first and the membership then; in the same order nobody deadlocks.
    customers = select(SUBSCRIPTION.c.customer_id).where(due)
    connection.execute(
        select(TELEGRAM_USER.c.chat_id)
        .where(TELEGRAM_USER.c.chat_id.in_(customers))
        .order_by(TELEGRAM_USER.c.chat_id)
        .with_for_update(key_share=True)
    )
    ended = connection.execute(update(SUBSCRIPTION).where(due).values(expired_at=now)).rowcount
    if ended:
        just_ended = and_(span.condition, SUBSCRIPTION.c.expired_at == now)
        let_go(connection, just_ended, now, group=group)
    return ended


def let_go(
    connection: Connection, just_ended: ColumnElement[bool], now: datetime, *, group: bool
) -> None:
    """Queue removal, word to the customer and to each admin, for memberships that just ended."""
    notices = []
    staff = outbox.admins(connection)
    for member in members_to_tell(connection, just_ended):
        if group:
            notices.append(notice("remove", member))
        notices.append(notice("expired", member))
        notices += [notice("admin-delete", member, to=admin, by_itself=group) for admin in staff]
    outbox.queue_all(connection, notices, now=now)
    gone = select(SUBSCRIPTION.c.customer_id).where(just_ended)
    connection.execute(
        update(TELEGRAM_USER)
        .where(TELEGRAM_USER.c.chat_id.in_(gone))
        .values(at_private_group=False)
    )
    outbox.cancel_for(connection, gone, REMINDER_KINDS)
