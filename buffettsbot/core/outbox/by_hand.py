"""What an admin sees of the outbox, sends again and takes back."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from buffettsbot.core.errors import Conflict, NotFound
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox
from buffettsbot.core.storage.statements import paged


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


def queued_message(db: Database, number: int) -> Outbox:
    """Return a message that can still be taken back. Raises NotFound, Conflict."""
    with db.read() as session:
        standing = session.get(Outbox, number)
    if standing is None or standing.status != "queued":
        raise _refusal(number, standing)
    return standing


def requeue(db: Database, number: int, *, now: datetime, by: By | None = None) -> Outbox:
    """Send again what failed, was cancelled or even sent. Raises NotFound, Conflict."""
    return _change(
        db,
        number,
        ("failed", "cancelled", "sent"),
        {"status": "queued", "not_before": now, "attempts": 0, "leased_until": None, "error": None},
        "outbox requeue",
        by,
    )


def cancel_one(db: Database, number: int, *, by: By | None = None) -> Outbox:
    """Take back what is queued. Raises NotFound, Conflict."""
    return _change(db, number, ("queued",), {"status": "cancelled"}, "outbox cancel", by)


def _change(
    db: Database,
    number: int,
    expected: Sequence[str],
    values: Mapping[str, Any],
    action: str,
    by: By | None,
) -> Outbox:
    with db.begin() as session:
        changed = session.scalars(
            update(Outbox)
            .where(col(Outbox.id) == number, col(Outbox.status).in_(expected))
            .values(**values)
            .returning(Outbox)
        ).first()
        if changed is not None:
            what = f"{changed.kind} for {changed.chat_id}"
            audit.record(session.connection(), by, action, number, what)
            return changed
        standing = session.get(Outbox, number)
    raise _refusal(number, standing)


def _refusal(number: int, standing: Outbox | None) -> NotFound | Conflict:
    if standing is None:
        return NotFound(f"There is no message {number}. To see them: buffettsbot outbox list")
    return Conflict(f"Message {number} is {standing.status}, so this cannot be done.")


def for_chat(db: Database, chat_id: int, *, limit: int = 50) -> list[Outbox]:
    """Return what was queued and sent for a chat, the newest first."""
    query = select(Outbox).where(col(Outbox.chat_id) == chat_id).order_by(col(Outbox.id).desc())
    with db.read() as session:
        return list(session.scalars(query.limit(limit)).all())
