"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Select, String, cast, literal, select
from sqlmodel import Session, UTCDateTime, col

from buffettsbot.core.db import Database, insert_once
from buffettsbot.core.models import Outbox, TelegramUser


def queue(
    session: Session,
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
    insert_once(session, Outbox, row, col(Outbox.id))


def queue_for_staff(
    session: Session, *, key: str, kind: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """Queue the same notice for every admin there is, in one statement; there may be none."""
    staff: Select[*tuple[Any, ...]] = select(
        (literal(key + ":") + cast(col(TelegramUser.chat_id), String)).label("key"),
        literal(kind).label("kind"),
        col(TelegramUser.chat_id).label("chat_id"),
        literal(dict(payload), JSON()).label("payload"),
        literal("queued").label("status"),
        literal(0).label("attempts"),
        literal(now, UTCDateTime()).label("not_before"),
        literal(now, UTCDateTime()).label("created_at"),
    ).where(col(TelegramUser.is_staff))
    insert_once(session, Outbox, staff, col(Outbox.id))


def for_chat(db: Database, chat_id: int, *, limit: int = 50) -> list[Outbox]:
    """Return what was queued and sent for a chat, the newest first."""
    query = select(Outbox).where(col(Outbox.chat_id) == chat_id).order_by(col(Outbox.id).desc())
    with db.read() as session:
        return list(session.scalars(query.limit(limit)).all())
