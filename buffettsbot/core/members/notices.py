"""What a member and the staff are told of a membership, and the keys that let it be told once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal, select, type_coerce
from sqlalchemy.engine import Connection

from buffettsbot.core.members.users import PERSON
from buffettsbot.core.outbox.queue import Effect, queue_all, queue_with_copies
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX, PLAN, SUBSCRIPTION, TELEGRAM_USER

# What a member is told, and what the staff.
Notices = tuple[str, str | None]
BEGUN: Notices = ("welcome", "admin-add")
RENEWED: Notices = ("renewal", "admin-keep")
REMINDER_KINDS = ("reminder", "reminder-details")
# The messages that come with a link into the group, where the program runs it; what a revocation
# overtakes: nobody is invited to where they may not be.
INVITING = ("welcome", "renewal", "invitation")
# What a renewal overtakes: nobody who has paid is reminded, told to leave, or removed.
OVERTAKEN = (*REMINDER_KINDS, "expired", "remove")

_MEMBERS = (
    select(
        *PERSON,
        PLAN.c.period.label("plan"),
        PLAN.c.price,
        SUBSCRIPTION.c.transaction_hash,
        SUBSCRIPTION.c.start_date,
        SUBSCRIPTION.c.end_date,
    )
    .select_from(SUBSCRIPTION)
    .join(TELEGRAM_USER, TELEGRAM_USER.c.chat_id == SUBSCRIPTION.c.customer_id)
    .outerjoin(PLAN, PLAN.c.id == SUBSCRIPTION.c.plan_id)
    .order_by(SUBSCRIPTION.c.end_date, SUBSCRIPTION.c.customer_id)
)


def members_to_tell(
    connection: Connection, where: ColumnElement[bool], *, lock: bool = False
) -> list[dict[str, Any]]:
    """Return what is told, as JSON, of each membership for which a condition on the table is true.

    With `lock`, nobody changes these memberships until this transaction ends.
    """
    query = _MEMBERS.where(where)
    if lock:
        query = query.with_for_update(read=True, of=SUBSCRIPTION)
    found = connection.execute(query)
    names = tuple(found.keys())
    members = [dict(zip(names, row, strict=True)) for row in found.all()]
    for member in members:
        member["start_date"] = _iso(member["start_date"])
        member["end_date"] = _iso(member["end_date"])
    return members


def _iso(moment: datetime) -> str:
    # Always with six digits, as SQL wrote it in the first release: else all are told once more.
    return moment.isoformat(timespec="microseconds")


def notice(
    kind: str,
    member: Mapping[str, Any],
    *,
    about: str | None = None,
    to: int | None = None,
    **extra: Any,
) -> Effect:
    """Make what a member is told, or what an admin (`to`) is told of them.

    `member` and `extra`: who it is, and what is told of their membership, as JSON. `about` sets it
    apart from every other of its kind; without it, the membership's end does.
    """
    key = f"{kind}:{about or end_of(member)}"
    if to is None:
        return Effect(key, kind, member["chat_id"], {**member, **extra})
    return Effect(f"{key}:{to}", kind, to, {**member, **extra})


def end_of(member: Mapping[str, Any]) -> str:
    """Return what sets a membership's end apart from every other: whose it is, and when."""
    return f"{member['chat_id']}:{member['end_date']}"


def queue_notices(
    connection: Connection,
    kinds: Notices,
    member: Mapping[str, Any],
    *,
    about: str,
    now: datetime,
    **extra: Any,
) -> None:
    """Queue what a member is told and, where there is a kind for the staff, what every admin is."""
    kind, staff_kind = kinds
    told = notice(kind, member, about=about, **extra)
    if staff_kind is None:
        queue_all(connection, [told], now=now)
    else:
        for_admins = notice(staff_kind, member, about=about, **extra)
        queue_with_copies(connection, told, for_admins, now=now)


def not_queued(db: Database, kind: str, ending: str = "") -> ColumnElement[bool]:
    """The condition on a membership that this notice of its end was not queued yet: the key that
    `notice` gives it, written in SQL. `ending` is what `about` has after `end_of`."""
    end = SUBSCRIPTION.c.end_date
    if db.is_sqlite:  # it holds a time as text already, but for the T and the zone
        written = func.replace(type_coerce(end, String), " ", "T")
    else:
        written = func.to_char(func.timezone("UTC", end), 'YYYY-MM-DD"T"HH24:MI:SS.US')
    whose = literal(f"{kind}:") + cast(SUBSCRIPTION.c.customer_id, String)
    key = whose + literal(":") + written + literal(f"+00:00{ending}")
    return ~select(OUTBOX.c.id).where(OUTBOX.c.key == key).exists()
