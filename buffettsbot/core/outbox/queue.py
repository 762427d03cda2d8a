"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Select,
    String,
    Update,
    and_,
    bindparam,
    cast,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlmodel import UTCDateTime

from buffettsbot.core.storage.models import OUTBOX, TELEGRAM_USER
from buffettsbot.core.storage.statements import each_once, insert_once


def queue(
    connection: Connection,
    *,
    key: str,
    kind: str,
    chat_id: int,
    payload: Mapping[str, Any],
    now: datetime,
    wait: timedelta = timedelta(0),
) -> bool:
    """Queue one effect for a chat, to be sent after a wait; return whether it is new: the same key
    again changes nothing."""
    row = {
        "key": key,
        "kind": kind,
        "chat_id": chat_id,
        "payload": dict(payload),
        "status": "queued",
        "attempts": 0,
        "not_before": now + wait,
        "created_at": now,
    }
    return insert_once(connection, OUTBOX, row) is not None


def queue_for_staff(
    connection: Connection, *, key: str, kind: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """Queue the same notice for every admin there is; there may be none."""
    values = {"staff_key": key, "staff_kind": kind, "payload": payload, "now": now}
    connection.execute(_FOR_STAFF[connection.dialect.name], values)


def queue_for_all(
    connection: Connection,
    kind: str,
    staff_kind: str | None,
    *,
    about: str,
    chat_id: int,
    payload: Mapping[str, Any],
    now: datetime,
) -> None:
    """Queue a notice for a chat and, where there is a `staff_kind`, one for every admin.

    `about` makes the key of each its own: the same notice about the same is queued once.
    """
    values = {"key": f"{kind}:{about}", "kind": kind, "chat": chat_id, "now": now}
    values |= {"staff_key": f"{staff_kind}:{about}", "staff_kind": staff_kind, "payload": payload}
    connection.execute(_FOR_ALL[connection.dialect.name], values)


def _notices(
    key: ColumnElement[str], kind: ColumnElement[str], chat_id: ColumnElement[int]
) -> Select[*tuple[Any, ...]]:
    now = bindparam("now", type_=UTCDateTime())
    return select(
        key.label("key"),
        kind.label("kind"),
        chat_id.label("chat_id"),
        bindparam("payload", type_=JSON()).label("payload"),
        literal("queued").label("status"),
        literal(0).label("attempts"),
        now.label("not_before"),
        now.label("created_at"),
    )


_TO_CHAT = _notices(
    bindparam("key", type_=String()),
    bindparam("kind", type_=String()),
    bindparam("chat", type_=BigInteger()),
)
_TO_STAFF = _notices(
    bindparam("staff_key", type_=String())
    .concat(":")
    .concat(cast(TELEGRAM_USER.c.chat_id, String)),
    bindparam("staff_kind", type_=String()),
    TELEGRAM_USER.c.chat_id,
).where(TELEGRAM_USER.c.is_staff, bindparam("staff_kind", type_=String()).is_not(None))
_FOR_STAFF = each_once(OUTBOX, _TO_STAFF)
_FOR_ALL = each_once(OUTBOX, _TO_CHAT.union_all(_TO_STAFF))


def cancel_for(connection: Connection, chats: Select[int], kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for the chats that a select finds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.chat_id.in_(chats), OUTBOX.c.kind.in_(kinds), OUTBOX.c.status == "queued")
        .values(status="cancelled")
    )


def cancel(connection: Connection, chat_id: int, kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for a chat."""
    connection.execute(_cancel(tuple(kinds)), {"chat": chat_id})


@cache
def _cancel(kinds: tuple[str, ...]) -> Update:
    return update(OUTBOX).where(_queued(bindparam("chat"), kinds)).values(status="cancelled")


def has_queued(chat_id: ColumnElement[int], kinds: Sequence[str]) -> ColumnElement[bool]:
    """The condition on a chat that something of these kinds is queued for it."""
    return select(OUTBOX.c.id).where(_queued(chat_id, kinds)).exists()


def _queued(chat_id: ColumnElement[int], kinds: Sequence[str]) -> ColumnElement[bool]:
    return and_(
        OUTBOX.c.chat_id == chat_id,
        OUTBOX.c.status == "queued",
        or_(*(OUTBOX.c.kind == kind for kind in kinds)),
    )
