"""Who changed what: every decision that a person made through the command line."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection
from sqlmodel import col

from buffettsbot.core.db import Database, paged
from buffettsbot.core.models import AUDIT, Audit


def record(
    connection: Connection, now: datetime, actor: str, action: str, subject: str, detail: str = ""
) -> None:
    """Write down a change in the transaction that makes it."""
    row = {"at": now, "actor": actor, "action": action, "subject": subject, "detail": detail}
    connection.execute(insert(AUDIT), row)


def list_audit(db: Database, *, limit: int | None = None) -> Iterator[Audit]:
    """Yield the changes, the newest first, page by page."""
    query = select(Audit).order_by(col(Audit.id).desc())

    def fetch(last: Audit | None, size: int) -> Sequence[Audit]:
        page = query.where(col(Audit.id) < last.id) if last else query
        with db.read() as session:
            return session.scalars(page.limit(size)).all()

    return paged(fetch, limit)
