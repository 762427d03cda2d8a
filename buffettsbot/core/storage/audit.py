"""Who changed what: every decision that a person made through the command line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection
from sqlmodel import col

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import AUDIT, Audit
from buffettsbot.core.storage.statements import paged


@dataclass(frozen=True)
class By:
    """Who changes something by hand, and when."""

    actor: str
    now: datetime


def record(
    connection: Connection, by: By | None, action: str, subject: str | int, detail: str = ""
) -> None:
    """Write down a change in the transaction that makes it; None is nobody: the program itself."""
    if by is not None:
        row = {"action": action, "subject": str(subject), "detail": detail}
        connection.execute(insert(AUDIT), row | {"at": by.now, "actor": by.actor})


def list_audit(
    db: Database, *, actor: str | None = None, subject: str | None = None, limit: int | None = None
) -> Iterator[Audit]:
    """Yield the changes, the newest first, page by page; by one actor, of one subject."""
    query = select(Audit).order_by(col(Audit.id).desc())
    if actor is not None:
        query = query.where(col(Audit.actor) == actor)
    if subject is not None:
        query = query.where(col(Audit.subject) == subject)

    def fetch(last: Audit | None, size: int) -> Sequence[Audit]:
        page = query.where(col(Audit.id) < last.id) if last else query
        with db.read() as session:
            return session.scalars(page.limit(size)).all()

    return paged(fetch, limit)
