"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Select,
    String,
    Update,
    bindparam,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection
from sqlmodel import UTCDateTime

from buffettsbot.core.storage.models import OUTBOX, TELEGRAM_USER
from buffettsbot.core.storage.statements import insert_rows_once

# In the very words of the index: for `is_staff = 1` SQLite reads every user, 60 ms of a million.
_ADMINS = select(TELEGRAM_USER.c.chat_id).where(text("is_staff")).order_by(TELEGRAM_USER.c.chat_id)
# One statement, for every sale comes here: to ask for the admins first takes 0.2 ms more.
_WITH_COPIES = text(
    """
    INSERT INTO outbox (key, kind, chat_id, payload, status, attempts, not_before, created_at)
    SELECT :key, :kind, :chat_id, :payload, 'queued', 0, :now, :now
    UNION ALL
    SELECT :copy_key || ':' || chat_id, :copy_kind, chat_id, :copy_payload, 'queued', 0, :now, :now
    FROM telegram_user WHERE is_staff
    ON CONFLICT DO NOTHING
    """
).bindparams(
    *(bindparam(name, type_=String()) for name in ("key", "kind", "copy_key", "copy_kind")),
    *(bindparam(name, type_=JSON()) for name in ("payload", "copy_payload")),
    bindparam("chat_id", type_=BigInteger()),
    bindparam("now", type_=UTCDateTime()),
)


class Effect(NamedTuple):
    """One effect on a chat. The same key again changes nothing; `payload` is JSON."""

    key: str
    kind: str
    chat_id: int
    payload: Mapping[str, Any]


def queue(
    connection: Connection,
    *,
    key: str,
    kind: str,
    chat_id: int,
    payload: Mapping[str, Any],
    now: datetime,
) -> bool:
    """Queue one effect, to be sent at once; return whether it is new."""
    return queue_all(connection, [Effect(key, kind, chat_id, payload)], now=now) == 1


def queue_all(
    connection: Connection,
    effects: Sequence[Effect],
    *,
    now: datetime,
    wait: timedelta = timedelta(0),
) -> int:
    """Queue effects in this order, to be sent after a wait; return how many are new."""
    begun = {"status": "queued", "attempts": 0, "not_before": now + wait, "created_at": now}
    rows = [effect._asdict() | begun for effect in effects]
    return insert_rows_once(connection, OUTBOX, rows)


def admins(connection: Connection) -> Sequence[int]:
    """Return the chats of the staff, who receive the admin notices; there may be none."""
    return connection.execute(_ADMINS).scalars().all()


def queue_with_copies(
    connection: Connection, effect: Effect, for_admins: Effect, *, now: datetime
) -> None:
    """Queue one effect, and another for every admin there is: their chat ends the key of each."""
    copies = {
        "copy_key": for_admins.key,
        "copy_kind": for_admins.kind,
        "copy_payload": for_admins.payload,
    }
    connection.execute(_WITH_COPIES, effect._asdict() | copies | {"now": now})


def cancel(connection: Connection, chat_id: int, kinds: tuple[str, ...]) -> None:
    """Take back what is queued of these kinds for a chat."""
    connection.execute(_cancellation(kinds), {"chat": chat_id})


@cache  # it is part of every sale, and to put it together takes 0.3 ms
def _cancellation(kinds: tuple[str, ...]) -> Update:
    return (
        update(OUTBOX)
        .where(
            OUTBOX.c.chat_id == bindparam("chat"),
            or_(*(OUTBOX.c.kind == kind for kind in kinds)),
            OUTBOX.c.status == "queued",
        )
        .values(status="cancelled")
    )


def cancel_for(connection: Connection, chats: Select[int], kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for the chats that a select finds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.chat_id.in_(chats), OUTBOX.c.kind.in_(kinds), OUTBOX.c.status == "queued")
        .values(status="cancelled")
    )
