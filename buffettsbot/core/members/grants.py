"""An admin's word in place of a payment: a membership granted, or ended before its time.

A grant extends a membership as a renewal does, under a name of its own where a payment has its
hash; the ledger is not touched. The audit log says who did it, why, and what it came to.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.errors import Conflict, Invalid, NoMembership, NotAllowed, UnknownPlan
from buffettsbot.core.hashes import GRANT
from buffettsbot.core.members import users
from buffettsbot.core.members.expiry import let_go
from buffettsbot.core.members.memberships import Member
from buffettsbot.core.members.notices import (
    BEGUN,
    INVITING,
    OVERTAKEN,
    RENEWED,
    queue_notices,
)
from buffettsbot.core.members.standing import Raced, Standing, extend, standing_of
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PERIODS, PLAN, SUBSCRIPTION
from buffettsbot.core.storage.statements import RACES

MOST_DAYS = 3660
SHORTEST = timedelta(seconds=1)

_ON_SALE = select(PLAN.c.id, PLAN.c.period).where(PLAN.c.is_active)
_END = (
    update(SUBSCRIPTION)
    .where(
        SUBSCRIPTION.c.transaction_hash == bindparam("seen_hash"),
        SUBSCRIPTION.c.end_date == bindparam("seen_end"),
        SUBSCRIPTION.c.expired_at.is_(None),
    )
    .returning(SUBSCRIPTION.c.customer_id)
)


@dataclass(frozen=True)
class Granted:
    """A grant: whose, its name, and the time it added."""

    customer_id: int
    transaction_hash: str
    start_date: datetime
    end_date: datetime


def grant(
    db: Database,
    *,
    person: str | int,
    days: int | None = None,
    until: datetime | None = None,
    reason: str,
    by: By,
) -> Granted:
    """Give a membership `days` more (after its end, while it runs), or let it end at `until`.

    Raises UnknownUser; UnknownPlan for a first membership with nothing on sale; Invalid for a time
    that is past or beyond `MOST_DAYS`; NotAllowed when `until` would shorten what runs; Conflict.
    """
    for _ in range(RACES):
        try:
            with db.begin() as session:
                return _grant(session.connection(), person, days, until, reason, by)
        except Raced:
            continue
    raise _changed_meanwhile()


def revoke(db: Database, *, member: Member, reason: str, by: By, group: bool) -> None:
    """End a running membership now, as expiry would: the very one that the admin has seen.

    `group`: whether the program removes people from the group itself. Raises NoMembership, or
    Conflict when it was renewed meanwhile.
    """
    with db.begin() as session:
        connection = session.connection()
        # As with payments, whoever changes a membership locks the customer first: nobody deadlocks.
        users.lock(connection, member.chat_id)
        standing = standing_of(connection, member.chat_id)
        if standing is None or not standing.runs(by.now):
            raise NoMembership(f"{member.chat_id} has no membership that runs.")
        if standing.transaction_hash != member.transaction_hash:
            raise _changed_meanwhile()
        # A host whose clock runs ahead may have begun it; no membership ends before it began.
        end = max(by.now, standing.start_date + SHORTEST)
        seen = {"seen_hash": standing.transaction_hash, "seen_end": standing.end_date}
        ended = {"end_date": end, "expired_at": by.now}
        if connection.execute(_END, seen | ended).first() is None:
            raise _changed_meanwhile()
        outbox.cancel(connection, member.chat_id, INVITING)
        theirs = SUBSCRIPTION.c.customer_id == member.chat_id
        let_go(connection, theirs, by.now, group=group)
        what = f"ended {_utc(end)}, not {_utc(standing.end_date)}, {standing.transaction_hash}"
        audit.record(connection, by, "subscribers revoke", member.chat_id, f"{reason} ({what})")


def _changed_meanwhile() -> Conflict:
    return Conflict("The membership was changed by others just now. Look at it, then try again.")


def _grant(
    connection: Connection,
    person: str | int,
    days: int | None,
    until: datetime | None,
    reason: str,
    by: By,
) -> Granted:
    customer = users.lock_person(connection, person)
    standing = standing_of(connection, customer.chat_id)
    running_until = standing.end_date if standing is not None and standing.runs(by.now) else None
    duration = _duration(days, until, running_until, by.now)
    granted = GRANT + secrets.token_hex(8)
    start, end, renewed = extend(
        connection,
        standing,
        customer_id=customer.chat_id,
        plan_id=_plan_id(connection, standing, duration),
        transaction_hash=granted,
        duration=duration,
        now=by.now,
    )
    if start != (running_until or by.now):
        raise Raced
    outbox.cancel(connection, customer.chat_id, OVERTAKEN)
    queue_notices(
        connection,
        RENEWED if renewed else BEGUN,
        customer._asdict(),
        about=granted,
        now=by.now,
        transaction_hash=granted,
        start_date=by.now.isoformat(),
        end_date=end.isoformat(),
    )
    days_added = f"{duration / timedelta(days=1):g}"
    unit = "day" if days_added == "1" else "days"
    detail = f"{reason} ({days_added} {unit}, {_utc(start)} to {_utc(end)}, {granted})"
    audit.record(connection, by, "subscribers grant", customer.chat_id, detail)
    return Granted(customer.chat_id, granted, start, end)


def _duration(
    days: int | None, until: datetime | None, end: datetime | None, now: datetime
) -> timedelta:
    """Return how much time a grant adds, to a membership that runs until `end` if one does."""
    if until is None:
        if days is None or not 1 <= days <= MOST_DAYS:
            raise Invalid(f"A grant is from 1 to {MOST_DAYS} days.")
        return timedelta(days=days)
    if not SHORTEST <= until - now <= timedelta(days=MOST_DAYS):
        raise Invalid(f"A grant ends after now, and at most {MOST_DAYS} days from now.")
    added = until - (end or now)
    if added < SHORTEST:
        raise NotAllowed(
            f"The membership runs until {until - added:%d %b %Y %H:%M} UTC already, and a grant "
            "never shortens. To end it: buffettsbot subscribers revoke USER --reason TEXT"
        )
    return added


def _plan_id(connection: Connection, standing: Standing | None, duration: timedelta) -> int:
    """Return the membership's own plan; for a first one, the longest on sale that the granted time
    covers, else the shortest."""
    if standing is not None and standing.plan_id is not None:
        return standing.plan_id
    on_sale = sorted(connection.execute(_ON_SALE), key=lambda plan: PERIODS[plan.period])
    if not on_sale:
        raise UnknownPlan(
            "A first membership needs a plan, and nothing is on sale. "
            'For example: buffettsbot plans create "1 month" 50'
        )
    covered = [plan for plan in on_sale if PERIODS[plan.period] <= duration]
    return int((covered or on_sale[:1])[-1].id)


def _utc(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
