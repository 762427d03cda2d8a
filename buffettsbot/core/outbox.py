"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.engine import Connection
from sqlmodel import col

from buffettsbot.core.db import Database, insert_once, paged
from buffettsbot.core.errors import Conflict, NotFound
from buffettsbot.core.models import OUTBOX, TELEGRAM_USER, Outbox


def queue(
    connection: Connection,
    *,
    key: str,
    kind: str,
    chat_id: int,
    payload: Mapping[str, Any],
    now: datetime,
) -> bool:
    """Queue one effect for a chat; return whether it is new: the same key again changes nothing."""
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
    return insert_once(connection, OUTBOX, row) is not None


def queue_for_staff(
    connection: Connection, *, key: str, kind: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """Queue the same notice for every admin there is; there may be none."""
    for chat_id in connection.execute(_STAFF).scalars().all():
        queue(
            connection, key=f"{key}:{chat_id}", kind=kind, chat_id=chat_id, payload=payload, now=now
        )


_STAFF = select(TELEGRAM_USER.c.chat_id).where(TELEGRAM_USER.c.is_staff)


def list_outbox(
    db: Database, *, status: str | None = None, limit: int | None = None
) -> Iterator[Outbox]:
    """Yield what was queued, the newest first, page by page."""
    query = select(Outbox).order_by(col(Outbox.id).desc())
    if status is not None:
        query = query.where(col(Outbox.status) == status)

    def fetch(last: Outbox | None, size: int) -> Sequence[Outbox]:
        page = query.where(col(Outbox.id) < last.id) if last else query
        with db.read() as session:
            return session.scalars(page.limit(size)).all()

    return paged(fetch, limit)


def requeue(db: Database, number: int, *, now: datetime) -> Outbox:
    """Send again what failed, was cancelled or even sent. Raises NotFound, Conflict."""
    return _change(
        db,
        number,
        ("failed", "cancelled", "sent"),
        {"status": "queued", "not_before": now, "attempts": 0, "leased_until": None, "error": None},
    )


def cancel_one(db: Database, number: int) -> Outbox:
    """Take back what is queued. Raises NotFound, Conflict."""
    return _change(db, number, ("queued",), {"status": "cancelled"})


def _change(
    db: Database, number: int, expected: Sequence[str], values: Mapping[str, Any]
) -> Outbox:
    with db.begin() as session:
        changed = session.scalars(
            update(Outbox)
            .where(col(Outbox.id) == number, col(Outbox.status).in_(expected))
            .values(**values)
            .returning(Outbox)
        ).first()
        if changed is not None:
            return changed
        standing = session.get(Outbox, number)
    if standing is None:
        raise NotFound(f"There is no message {number}. To see them: buffettsbot outbox list")
    raise Conflict(f"Message {number} is {standing.status}, so this cannot be done.")


def cancel_for(connection: Connection, chats: Select[int], kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for the chats that a select finds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.chat_id.in_(chats), OUTBOX.c.kind.in_(kinds), OUTBOX.c.status == "queued")
        .values(status="cancelled")
    )


def cancel(connection: Connection, chat_id: int, kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for a chat."""
    connection.execute(_CANCEL, {"chat": chat_id, "kinds": list(kinds)})


_CANCEL = (
    update(OUTBOX)
    .where(
        OUTBOX.c.chat_id == bindparam("chat"),
        OUTBOX.c.status == "queued",
        OUTBOX.c.kind.in_(bindparam("kinds", expanding=True)),
    )
    .values(status="cancelled")
)


def for_chat(db: Database, chat_id: int, *, limit: int = 50) -> list[Outbox]:
    """Return what was queued and sent for a chat, the newest first."""
    query = select(Outbox).where(col(Outbox.chat_id) == chat_id).order_by(col(Outbox.id).desc())
    with db.read() as session:
        return list(session.scalars(query.limit(limit)).all())
