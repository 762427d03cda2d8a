"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, or_, select, text, update
from sqlalchemy.engine import Connection

from buffettsbot.core.storage.models import OUTBOX, TELEGRAM_USER
from buffettsbot.core.storage.statements import insert_rows_once

# In the very words of the index: for `is_staff = 1` SQLite reads every user, 60 ms of a million.
_ADMINS = select(TELEGRAM_USER.c.chat_id).where(text("is_staff")).order_by(TELEGRAM_USER.c.chat_id)


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


def cancel(connection: Connection, chat_id: int, kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for a chat."""
    cancel_where(connection, OUTBOX.c.chat_id == chat_id, kinds)


def cancel_where(connection: Connection, wanted: ColumnElement[bool], kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds, where a condition on the outbox is true."""
    connection.execute(
        update(OUTBOX)
        .where(wanted, OUTBOX.c.kind.in_(kinds), OUTBOX.c.status == "queued")
        .values(status="cancelled")
    )


def has_queued(chat_id: ColumnElement[int], kinds: Sequence[str]) -> ColumnElement[bool]:
    """The condition on a chat that something of these kinds is queued for it."""
    return (
        select(OUTBOX.c.id)
        .where(
            and_(
                OUTBOX.c.chat_id == chat_id,
                OUTBOX.c.status == "queued",
                or_(*(OUTBOX.c.kind == kind for kind in kinds)),
            )
        )
        .exists()
    )
