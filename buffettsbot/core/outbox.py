"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, literal, select, update
from sqlalchemy.engine import Connection
from sqlmodel import col

from buffettsbot.core.db import Database, insert_once
from buffettsbot.core.models import OUTBOX, TELEGRAM_USER, Outbox


def queue(
    connection: Connection,
    *,
    key: str,
    kind: str,
    chat_id: int,
    payload: Mapping[str, Any],
    now: datetime,
) -> None:
    """Queue one effect for a chat; the same key again changes nothing."""
    row = {
        "key": key,
        "kind": kind,
        "chat_id": chat_id,
        "payload": dict(payload),
        "status": "queued",
        "attempts": 0,
        "not_before": now,
        "created_at": now,
    }
    insert_once(connection, OUTBOX, row)


def queue_for_staff(
    connection: Connection, *, key: str, kind: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """Queue the same notice for every admin there is; there may be none."""
    for chat_id in connection.execute(_STAFF).scalars().all():
        queue(
            connection, key=f"{key}:{chat_id}", kind=kind, chat_id=chat_id, payload=payload, now=now
        )


_STAFF = select(TELEGRAM_USER.c.chat_id).where(TELEGRAM_USER.c.is_staff)


def cancel_for(connection: Connection, chats: Select[int], kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for the chats that a select finds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.chat_id.in_(chats), OUTBOX.c.kind.in_(kinds), OUTBOX.c.status == "queued")
        .values(status="cancelled")
    )


def cancel(connection: Connection, chat_id: int, kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for a chat."""
    cancel_for(connection, select(literal(chat_id)), kinds)


def for_chat(db: Database, chat_id: int, *, limit: int = 50) -> list[Outbox]:
    """Return what was queued and sent for a chat, the newest first."""
    query = select(Outbox).where(col(Outbox.chat_id) == chat_id).order_by(col(Outbox.id).desc())
    with db.read() as session:
        return list(session.scalars(query.limit(limit)).all())
