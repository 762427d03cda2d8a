"""What a member and the staff are told of a membership, and the keys that let it be told once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Select, String, cast, func, literal, select, type_coerce
from sqlalchemy.engine import Connection
from sqlmodel import UTCDateTime

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX, PLAN, SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.storage.statements import insert_each_once

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

_END, _CUSTOMER = SUBSCRIPTION.c.end_date, SUBSCRIPTION.c.customer_id


def queue_each(
    connection: Connection,
    *,
    kind: str,
    where: ColumnElement[bool],
    now: datetime,
    extra: Mapping[str, Any] | None = None,
    key_end: str = "",
    for_staff: bool = False,
) -> int:
    """Queue a notice for each membership that `where` finds, to the member or to every admin.

    The key is `kind:chat:end[:key_end][:admin]`, so the same notice is never queued twice. Return
    how many were queued.
    """
    sqlite = connection.dialect.name == "sqlite"
    admin = TELEGRAM_USER.alias("admin")
    receiver = admin.c.chat_id if for_staff else TELEGRAM_USER.c.chat_id
    key = _key(kind, key_end, sqlite)
    if for_staff:
        key = key.concat(":").concat(_text(admin.c.chat_id))
    rows: Select[*tuple[Any, ...]] = (
        select(
            key.label("key"),
            literal(kind).label("kind"),
            receiver.label("chat_id"),
            type_coerce(_payload(sqlite, extra or {}), JSON).label("payload"),
            literal("queued").label("status"),
            literal(0).label("attempts"),
            literal(now, UTCDateTime()).label("not_before"),
            literal(now, UTCDateTime()).label("created_at"),
        )
        .select_from(SUBSCRIPTION)
        .join(TELEGRAM_USER, TELEGRAM_USER.c.chat_id == _CUSTOMER)
        .outerjoin(PLAN, PLAN.c.id == SUBSCRIPTION.c.plan_id)
        .where(where)
    )
    if for_staff:
        rows = rows.join(admin, admin.c.is_staff)
    return insert_each_once(connection, OUTBOX, rows)


def not_queued(db: Database, kind: str, key_end: str) -> ColumnElement[bool]:
    """The condition on a membership that `queue_each` has not queued this notice for it yet."""
    key = _key(kind, key_end, db.is_sqlite)
    return ~select(OUTBOX.c.id).where(OUTBOX.c.key == key).exists()


def _key(kind: str, key_end: str, sqlite: bool) -> ColumnElement[str]:
    key = literal(f"{kind}:").concat(_text(_CUSTOMER)).concat(":").concat(_iso(_END, sqlite))
    return key.concat(f":{key_end}") if key_end else key


def _payload(sqlite: bool, extra: Mapping[str, Any]) -> ColumnElement[Any]:
    """The data that a notice about a membership is written from, as a JSON object made in SQL."""
    fields: dict[str, ColumnElement[Any]] = {
        "chat_id": TELEGRAM_USER.c.chat_id,
        "telegram_username": TELEGRAM_USER.c.telegram_username,
        "first_name": TELEGRAM_USER.c.first_name,
        "last_name": TELEGRAM_USER.c.last_name,
        "plan": PLAN.c.period,
        "price": PLAN.c.price,
        "transaction_hash": SUBSCRIPTION.c.transaction_hash,
        "start_date": _iso(SUBSCRIPTION.c.start_date, sqlite),
        "end_date": _iso(_END, sqlite),
    } | {name: literal(value) for name, value in extra.items()}
    flat = [part for name, value in fields.items() for part in (literal(name, String()), value)]
    return (func.json_object if sqlite else func.json_build_object)(*flat)


def _text(column: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(column, String)


def _iso(column: ColumnElement[Any], sqlite: bool) -> ColumnElement[str]:
    """A time as ISO 8601 in UTC; SQLite holds it as text already, but for the T and the zone."""
    if sqlite:
        return func.replace(type_coerce(column, String), " ", "T").concat("+00:00")
    local = func.timezone("UTC", column)
    return func.to_char(local, 'YYYY-MM-DD"T"HH24:MI:SS.US').concat("+00:00")
